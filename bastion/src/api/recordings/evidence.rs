//! What proves a recording: its index, its seal, and the verdict over all of it.

use std::sync::Arc;

use ::recordings::verify::{Report, Told};
use poem::{Request, web::Data};
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::Json,
    types::Any,
};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{
    files::{File, JsonFile, SealFile, Source},
    note, read_stored,
    refusal::Refusal,
};
use crate::{
    api::{Chapter, callers::User, error::ApiError, nullable::Nullable},
    app::App,
    seals::RecordingKeys,
};

/// Whether a recording is what was sealed, as `castellan verify --json` tells it.
#[derive(Debug, Object)]
pub struct Verification {
    /// `whole`, `altered`, `incomplete` or `unknown_key`.
    verdict: String,
    /// What `castellan verify` exits with: 0 whole, 1 altered, 2 incomplete, 3 unknown key.
    exit: u8,
    /// `stored` (zstd frames, one a chunk) or `plain`.
    form: String,
    /// The session's id; unproven unless `seal` is there.
    session: Nullable<String>,
    /// How many chunks there should be; unproven unless `seal` is there.
    chunks: Nullable<u64>,
    /// Chunks, from the first, that are what index and seal say.
    matched: u64,
    /// The first chunk (from 0) that is altered, in the cast or in the index; null if none is known.
    first_bad_chunk: Nullable<u64>,
    /// All of the cast is as sealed, even if the index is missing or altered.
    proven: bool,
    /// It was sealed after a crash, as it stood then; null without a seal.
    recovered: Nullable<bool>,
    /// What is wrong, the gravest first.
    findings: Vec<VerificationFinding>,
    /// The key that signed the seal.
    kid: Nullable<String>,
    /// The seal's claims; null unless its signature holds.
    seal: Nullable<Any<Value>>,
}

/// Something that is wrong with a recording.
#[derive(Debug, Object)]
pub struct VerificationFinding {
    /// `chunk`, `surplus`, `unsealed`, `index`, `index_entry`, `disagree`, `other_session`, `seal`, `unknown_key`,
    /// `empty`, `cut`, `shorter`, `no_index` or `no_seal`.
    code: String,
    /// The sentence that says it.
    message: String,
    /// The chunk (from 0) it is about, if it is about one.
    #[oai(skip_serializing_if_is_none)]
    chunk: Option<u64>,
}

/// Recordings proven.
pub struct Evidence {
    /// One at a time: it keeps a processor busy. Whoever else wants to verify waits.
    turns: Semaphore,
}

impl Default for Evidence {
    fn default() -> Self {
        Self { turns: Semaphore::new(1) }
    }
}

#[OpenApi(tag = "Chapter::Recordings")]
impl Evidence {
    /// Take a recording's index
    ///
    /// Where each chunk of the cast lies, and its place in the hash chain: exactly as it is stored. `download` (any
    /// value) is audited, and names the file so that `castellan verify` finds it beside the cast. 409 `not_stored`
    /// until it is stored.
    #[oai(path = "/recordings/:id/index", method = "get")]
    async fn index(
        &self,
        Data(app): Data<&Arc<App>>,
        caller: User,
        request: &Request,
        id: Path<String>,
        download: Query<Option<String>>,
    ) -> Result<JsonFile, Refusal> {
        let (id, library) = (id.0.as_str(), &app.library);
        let index = read_stored(app, &caller, id, |stored| async move { library.index(&stored).await });
        let (found, index) = index.await?;
        let mut file = File::new("application/json", Source::Whole(index));
        if download.0.is_some() {
            note(app, &caller, "recording.download", id, "index").await?;
            file = file.attached(id, "index.json");
        }
        let answer = file.answer(request.headers()).await;
        answer.map(JsonFile).map_err(|error| Refusal::to_read(&found, &error))
    }

    /// Take a recording's seal
    ///
    /// A compact JWS (EdDSA, by a `rec-` key of `/.well-known/jwks.json`) over what was recorded: exactly as it is
    /// stored. `download` as for the index. 409 `not_stored` until it is stored.
    #[oai(path = "/recordings/:id/seal", method = "get")]
    async fn seal(
        &self,
        Data(app): Data<&Arc<App>>,
        caller: User,
        request: &Request,
        id: Path<String>,
        download: Query<Option<String>>,
    ) -> Result<SealFile, Refusal> {
        let (id, library) = (id.0.as_str(), &app.library);
        let seal = read_stored(app, &caller, id, |stored| async move { library.seal(&stored).await });
        let (found, seal) = seal.await?;
        let mut file = File::new("application/jose", Source::Whole(seal.into()));
        if download.0.is_some() {
            note(app, &caller, "recording.download", id, "seal").await?;
            file = file.attached(id, "seal");
        }
        let answer = file.answer(request.headers()).await;
        answer.map(SealFile).map_err(|error| Refusal::to_read(&found, &error))
    }

    /// Verify a recording
    ///
    /// Whether what lies in the store is what was sealed: chunk by chunk, by the bastion's own keys, the retired ones
    /// included. Takes about a second for each 200 MB of cast, and verifies one recording at a time. Whoever does not
    /// trust the bastion takes cast, index and seal and runs `castellan verify`. 409 `not_stored` until it is stored.
    /// Verifying is audited.
    #[oai(path = "/recordings/:id/verify", method = "get")]
    async fn verify(
        &self,
        Data(app): Data<&Arc<App>>,
        caller: User,
        id: Path<String>,
    ) -> Result<Json<Verification>, Refusal> {
        let (id, library) = (id.0.as_str(), &app.library);
        let keys = &RecordingKeys::of(app.signing.keys()).map_err(|error| ApiError::internal(&error))?;
        // Who may not see it does not wait in the queue.
        super::found(app, &caller, id).await?.require_stored()?;
        let _turn = self.turns.acquire().await.map_err(|closed| ApiError::internal(&closed))?;
        let verdict =
            read_stored(
                app,
                &caller,
                id,
                |stored| async move { library.verify(id, &stored, keys.clone()).await },
            );
        let (_, verdict) = verdict.await?;
        note(app, &caller, "recording.verify", id, verdict.standing().name()).await?;
        shown(verdict.report()).map(Json)
    }
}

fn shown(report: Report) -> Result<Verification, Refusal> {
    let seal = report.seal.map(serde_json::to_value).transpose();
    let seal = seal.map_err(|error| ApiError::internal(&error))?;
    let finding = |told: Told| VerificationFinding {
        code: told.code.to_owned(),
        message: told.message,
        chunk: told.chunk,
    };
    Ok(Verification {
        verdict: report.verdict.to_owned(),
        exit: report.exit,
        form: report.form.to_owned(),
        session: report.session.into(),
        chunks: report.chunks.into(),
        matched: report.matched,
        first_bad_chunk: report.first_bad_chunk.into(),
        proven: report.proven,
        recovered: report.recovered.into(),
        findings: report.findings.into_iter().map(finding).collect(),
        kid: report.kid.into(),
        seal: seal.map(Any).into(),
    })
}
