//! Lists: a page of items and where the next begins.

use crate::{
    api::error::ApiError,
    clock::parse_rfc3339,
    db::{Page, sessions::Filter},
};

/// Items on a page unless asked otherwise.
const LIMIT: u32 = 50;

/// The page that `limit` and `cursor` of a query ask for.
pub fn page(limit: Option<u32>, cursor: Option<String>) -> Result<Page, ApiError> {
    let limit = limit.unwrap_or(LIMIT);
    if !(1..=200).contains(&limit) {
        return Err(ApiError::invalid_field("limit", "must be 1 to 200"));
    }
    if cursor.as_ref().is_some_and(|cursor| cursor.len() > 64 || cursor.chars().any(char::is_control)) {
        return Err(ApiError::invalid_field("cursor", "must be a next_cursor"));
    }
    Ok(Page { cursor, limit: limit.into() })
}

/// An instant of a query.
pub fn instant(name: &str, text: Option<&str>) -> Result<Option<i64>, ApiError> {
    text.map(|text| {
        parse_rfc3339(text).ok_or_else(|| ApiError::invalid_field(name, "must be an RFC 3339 time"))
    })
    .transpose()
}

/// Which sessions a query asks for, of those that the caller may see.
pub fn sessions(
    owner: Option<String>,
    asset: Option<String>,
    state: Option<String>,
    from: Option<&str>,
    to: Option<&str>,
) -> Result<Filter, ApiError> {
    const STATES: [&str; 7] = ["live", "connecting", "active", "detached", "resuming", "closed", "error"];
    if state.as_deref().is_some_and(|state| !STATES.contains(&state)) {
        return Err(ApiError::invalid_field("state", format!("must be one of {}", STATES.join(", "))));
    }
    let live = state.as_deref() == Some("live");
    let status = state.filter(|_| !live);
    Ok(Filter { user: owner, asset, live, status, from: instant("from", from)?, to: instant("to", to)? })
}

/// Declares the published type of a list.
macro_rules! list_of {
    ($(#[$doc:meta])* $name:ident, $item:ty) => {
        $(#[$doc])*
        #[derive(Debug, poem_openapi::Object)]
        pub struct $name {
            /// At most `limit`.
            pub items: Vec<$item>,
            /// The `cursor` of the next page; null: this is the last.
            pub next_cursor: $crate::api::nullable::Nullable<String>,
        }
    };
}
pub(crate) use list_of;
