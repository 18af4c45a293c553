//! Decisions, tickets, terminal sessions and what counts them: lock rows and node leases.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLES: [&str; 7] =
    ["policy_versions", "active_policy", "decisions", "tickets", "nodes", "scope_locks", "tty_sessions"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        policies(manager).await?;
        tickets(manager).await?;
        slots(manager).await?;
        sessions(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &TABLES).await
    }
}

async fn policies(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let mut versions = table(manager, "policy_versions");
    versions
        .col(instant("version").primary_key())
        .col(document(manager, "document"))
        .col(name("comment", 500))
        .col(name_or_null("created_by", 64))
        .col(instant("created_at"));
    manager.create_table(versions).await?;

    // One row: which version rules.
    let mut active = table(manager, "active_policy");
    active
        .col(id("id").primary_key())
        .col(instant("version"))
        .col(name_or_null("activated_by", 64))
        .col(instant("activated_at"));
    manager.create_table(active).await?;

    let mut decisions = table(manager, "decisions");
    decisions
        .col(id("id").primary_key())
        .col(instant("at"))
        .col(id("user_id"))
        .col(id("asset_id"))
        .col(name("purpose", 16))
        .col(name("effect", 16))
        .col(name_or_null("code", 64))
        .col(name("address", 64))
        .col(instant("policy_version"))
        .col(document(manager, "trail"));
    manager.create_table(decisions).await?;
    manager.create_index(index("decisions", &["at"], false)).await?;
    manager.create_index(index("decisions", &["user_id", "at"], false)).await
}

async fn tickets(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let mut tickets = table(manager, "tickets");
    tickets
        .col(name("jti_hash", 64).primary_key())
        .col(name("kind", 16))
        .col(id("user_id"))
        .col(id("asset_id"))
        .col(name_or_null("session_id", 64))
        .col(name_or_null("credential", 80))
        .col(name_or_null("address", 64))
        .col(instant("created_at"))
        .col(instant("expires_at"))
        .col(instant_or_null("redeemed_at"))
        .col(instant_or_null("voided_at"));
    manager.create_table(tickets).await?;
    manager.create_index(index("tickets", &["session_id"], false)).await?;
    manager.create_index(index("tickets", &["expires_at"], false)).await
}

async fn slots(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let mut nodes = table(manager, "nodes");
    nodes.col(id("id").primary_key()).col(count("epoch")).col(instant("lease_until"));
    manager.create_table(nodes).await?;

    let mut locks = table(manager, "scope_locks");
    locks.col(name("k", 190).primary_key()).col(count("seq"));
    manager.create_table(locks).await
}

async fn sessions(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let mut sessions = table(manager, "tty_sessions");
    sessions
        .col(id("id").primary_key())
        .col(id("user_id"))
        .col(id("asset_id"))
        .col(id("node_id"))
        .col(count("node_epoch"))
        .col(name("status", 16))
        .col(name_or_null("end_reason", 32))
        .col(id("decision_id"))
        .col(name_or_null("credential", 80))
        .col(name("address", 64))
        .col(flag("plain"))
        .col(document_or_null(manager, "command"))
        .col(name_or_null("run_as", 64))
        .col(count("cols"))
        .col(count("rows"))
        .col(document(manager, "obligations"))
        .col(instant_or_null("ends_at"))
        .col(number_or_null("exit_code"))
        .col(name_or_null("exit_signal", 32))
        .col(instant("created_at"))
        .col(instant_or_null("started_at"))
        .col(instant_or_null("ended_at"));
    manager.create_table(sessions).await?;
    manager.create_index(index("tty_sessions", &["user_id", "ended_at"], false)).await?;
    manager.create_index(index("tty_sessions", &["asset_id", "ended_at"], false)).await?;
    manager.create_index(index("tty_sessions", &["created_at"], false)).await
}
