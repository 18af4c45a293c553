//! Bodies: read once under a cap, refused with the path of the first fault, then checked field by field.

use std::time::Duration;

use bytes::Bytes;
use openapi::agents::clean;
use poem::{Request, RequestBody, http::StatusCode};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaMediaType, MetaRequest, Registry},
    types::Type,
};
use serde::de::DeserializeOwned;

use super::error::{ApiError, Fault};
use crate::door::{BodyError, read_body};

/// The longest body of any operation, in bytes.
const CAP: usize = 64 * 1024;
/// How long a whole body may take.
const DEADLINE: Duration = Duration::from_secs(15);

/// What a body must satisfy beyond its shape.
pub trait Checked {
    /// Notes every fault.
    fn check(&self, faults: &mut Faults);
}

/// The faults found so far.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Notes a fault.
    pub fn add(&mut self, path: impl Into<String>, detail: impl Into<String>) {
        self.0.push(Fault { path: path.into(), detail: detail.into() });
    }

    /// A line of text: no control characters, `1..=max` characters.
    pub fn line(&mut self, path: &str, text: &str, max: usize) {
        if text.is_empty() {
            self.add(path, "must not be empty");
        }
        self.text(path, text, max);
    }

    /// Text without control characters, at most `max` characters.
    pub fn text(&mut self, path: &str, text: &str, max: usize) {
        if text.chars().count() > max {
            self.add(path, format!("at most {max} characters"));
        }
        if text.chars().any(char::is_control) {
            self.add(path, "no control characters");
        }
    }

    /// An id of ours.
    pub fn id(&mut self, path: &str, id: &str) {
        if uuid::Uuid::parse_str(id).is_err() || id.len() != 36 {
            self.add(path, "must be a UUID");
        }
    }

    /// Labels as in Kubernetes, at most 64.
    pub fn labels(&mut self, path: &str, labels: &std::collections::BTreeMap<String, String>) {
        use openapi::agents::{LABELS_MAX, valid_label_key, valid_label_value};
        if labels.len() > LABELS_MAX {
            self.add(path, format!("at most {LABELS_MAX} labels"));
        }
        for (key, value) in labels {
            if !valid_label_key(key) {
                self.add(format!("{path}.{}", clean(key, 64)), "not a label key as in Kubernetes");
            }
            if !valid_label_value(value) {
                self.add(format!("{path}.{}", clean(key, 64)), "not a label value as in Kubernetes");
            }
        }
    }

    /// A refusal that names them, unless there are none.
    pub fn into_result(self) -> Result<(), ApiError> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.0)) }
    }
}

/// A JSON body.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<'a, T: DeserializeOwned + Checked + Type> ApiExtractor<'a> for Body<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(json_request::<T>())
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let bytes = raw(request, body).await?;
        Ok(Self(parse(request.content_type(), &bytes)?))
    }
}

/// How a JSON body of `T` is published.
pub fn json_request<T: Type>() -> MetaRequest {
    MetaRequest {
        description: None,
        content: vec![MetaMediaType { content_type: "application/json", schema: T::schema_ref() }],
        required: true,
    }
}

/// The raw body, every byte counted.
pub async fn raw(request: &Request, body: &mut RequestBody) -> Result<Bytes, ApiError> {
    let announced = request
        .header("content-length")
        .and_then(|length| length.parse::<u64>().ok())
        .is_some_and(|length| length > CAP as u64);
    if announced {
        return Err(too_large());
    }
    let Ok(body) = body.take() else { return Ok(Bytes::new()) };
    read_body(body, CAP, DEADLINE).await.map_err(|error| match error {
        BodyError::TooLarge(_) => too_large(),
        BodyError::TooSlow => {
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", "The body did not arrive in time.")
        }
        BodyError::Broken => ApiError::new(StatusCode::BAD_REQUEST, "invalid_request", "The body broke off."),
    })
}

fn too_large() -> ApiError {
    let detail = format!("A body may have at most {CAP} bytes.");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", detail)
}

/// Parses and checks a JSON body.
pub fn parse<T: DeserializeOwned + Checked>(content_type: Option<&str>, bytes: &[u8]) -> Result<T, ApiError> {
    let essence = content_type.and_then(|it| it.split(';').next()).map(str::trim);
    if !essence.is_some_and(|it| it.eq_ignore_ascii_case("application/json")) {
        return Err(ApiError::invalid_field("Content-Type", "must be application/json"));
    }
    // serde would read a struct from an array too.
    if bytes.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(ApiError::invalid_field("body", "must be a JSON object"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value: T = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        // Where the text broke off in the middle of a name, the path ends in a question mark.
        let path = path.trim_end_matches('?').trim_end_matches('.');
        ApiError::invalid(vec![fault(if path.is_empty() { "." } else { path }, &error.into_inner())])
    })?;
    json.end().map_err(|error| ApiError::invalid(vec![fault(".", &error)]))?;
    let mut faults = Faults::default();
    value.check(&mut faults);
    faults.into_result()?;
    Ok(value)
}

/// serde says `missing field `x`` at the parent's path; the fault is at the field.
fn fault(path: &str, error: &serde_json::Error) -> Fault {
    let said = clean(&error.to_string(), 300);
    let said = said.split(" at line ").next().unwrap_or_default().to_owned();
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|start| said.strip_prefix(start)?.split('`').next());
    let path = match named {
        Some(field) if path == "." => field.to_owned(),
        Some(field) if !path.ends_with(field) => format!("{path}.{field}"),
        _ => path.to_owned(),
    };
    Fault {
        path: if matches!(path.as_str(), "." | "?") { "body".to_owned() } else { clean(&path, 200) },
        detail: said,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Thing {
        name: String,
        #[allow(dead_code)]
        inner: Inner,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[allow(dead_code)]
        count: u8,
    }

    impl Checked for Thing {
        fn check(&self, faults: &mut Faults) {
            faults.line("name", &self.name, 5);
        }
    }

    fn path_of(json: &str) -> String {
        let error = parse::<Thing>(Some("application/json"), json.as_bytes()).unwrap_err();
        assert_eq!(error.code(), "invalid_request");
        error.member("errors")[0]["path"].as_str().unwrap().to_owned()
    }

    #[test]
    fn every_fault_names_its_field() {
        for (json, path) in [
            (r"{}", "name"),
            (r#"{"name":"a"}"#, "inner"),
            (r#"{"name":null,"inner":{"count":1}}"#, "name"),
            (r#"{"name":1,"inner":{"count":1}}"#, "name"),
            (r#"{"name":"a","inner":{}}"#, "inner.count"),
            (r#"{"name":"a","inner":{"count":-1}}"#, "inner.count"),
            (r#"{"name":"a","inner":{"count":1,"x":1}}"#, "inner.x"),
            (r#"{"name":"a","inner":{"count":1},"more":1}"#, "more"),
            (r#"{"name":"","inner":{"count":1}}"#, "name"),
            (r#"{"name":"abcdef","inner":{"count":1}}"#, "name"),
            ("{\"name\":\"a\\u0007\",\"inner\":{\"count\":1}}", "name"),
            (r"[", "body"),
            (r#"["a",{"count":1}]"#, "body"),
            (r#"{"name":"#, "name"),
            (r"{", "body"),
            (r#"{"name":"a","inner":{"#, "inner"),
            (r#"{"name":"a","inner":{"count":1}} x"#, "body"),
        ] {
            assert_eq!(path_of(json), path, "{json}");
        }
    }

    #[test]
    fn a_body_that_is_not_json_by_its_own_word_is_refused() {
        let good = br#"{"name":"a","inner":{"count":1}}"#;
        assert!(parse::<Thing>(Some("application/json; charset=utf-8"), good).is_ok());
        assert!(parse::<Thing>(Some("text/plain"), good).is_err());
        assert!(parse::<Thing>(None, good).is_err());
    }
}
