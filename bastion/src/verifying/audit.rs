//! `castellan verify --audit`: the audit log judged on the spot, told to people and programs.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use bastion::{
    audit::{Ask, Standing, Verdict, judge},
    config::Config,
};
use serde_json::{Value, json};

use super::{NOT_JUDGED, Verify, inert, keys};

impl Verify {
    pub(super) fn judge_audit(&self) -> Result<u8> {
        let config = Config::load(&self.config, std::env::vars())?;
        let keys = self.keys.as_deref().map(keys).transpose()?;
        let ask = Ask { keys, pins: self.heads.clone(), deep: self.deep };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
        let verdict = runtime.block_on(judge(&config, ask))?;
        let code = code_of(verdict.standing());
        let told = if self.json { format!("{}\n", as_json(&verdict, code)) } else { told(&verdict) };
        io::stdout().write_all(told.as_bytes())?;
        Ok(code)
    }
}

fn code_of(standing: Standing) -> u8 {
    match standing {
        Standing::Whole => 0,
        Standing::Altered => 1,
        Standing::Incomplete => 2,
        Standing::UnknownKey => 3,
        Standing::NotJudged => NOT_JUDGED,
    }
}

fn as_json(verdict: &Verdict, code: u8) -> Value {
    let findings = verdict.findings.iter().map(|finding| {
        let mut said = json!({ "code": finding.code(), "message": finding.to_string() });
        let about = [
            ("seq", finding.seq().map(Value::from)),
            ("session", finding.session().map(Value::from)),
            ("key", finding.key().map(Value::from)),
        ];
        for (name, value) in about.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            said[name] = value;
        }
        said
    });
    let head = (verdict.rows > 0).then(|| json!({ "seq": verdict.last, "hash": verdict.hash }));
    json!({
        "verdict": verdict.standing().name(),
        "exit": code,
        "rows": verdict.rows,
        "head": head,
        "heads": verdict.heads,
        "signed": verdict.signed,
        "unchained": verdict.unchained,
        "recordings": verdict.recordings,
        "findings": findings.collect::<Vec<_>>(),
        "more": verdict.more,
    })
}

fn told(verdict: &Verdict) -> String {
    let headline = match verdict.standing() {
        Standing::Whole => "whole",
        Standing::Altered => "ALTERED",
        Standing::Incomplete => "incomplete",
        Standing::UnknownKey => "not proven: a head's key is not known",
        Standing::NotJudged => "not judged in full",
    };
    let mut lines = vec![format!("audit log: {headline}")];
    lines.extend(verdict.findings.iter().map(|finding| inert(&finding.to_string())));
    if verdict.more > 0 {
        lines.push(format!("and {} findings more", verdict.more));
    }
    lines.push(format!(
        "{} rows, {} heads, {} recordings looked at",
        verdict.rows, verdict.heads, verdict.recordings
    ));
    if verdict.rows > 0 {
        lines.push(format!("head {}:{}", verdict.last, inert(&verdict.hash)));
    }
    if verdict.signed < verdict.last {
        lines.push(format!("rows after {} are under no head yet", verdict.signed));
    }
    if verdict.unchained > 0 {
        lines.push(format!("{} rows are not chained yet; a running bastion chains them", verdict.unchained));
    }
    lines.join("\n  ") + "\n"
}
