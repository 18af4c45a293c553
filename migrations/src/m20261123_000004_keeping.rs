//! Recordings, the audit log, and the bastion's own keys.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLES: [&str; 4] = ["recordings", "audit_log", "signing_keys", "key_canary"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut recordings = table(manager, "recordings");
        recordings
            .col(id("session_id").primary_key())
            .col(name("state", 16))
            .col(document_or_null(manager, "reason"))
            .col(name_or_null("object_key", 512))
            .col(name_or_null("compression", 16))
            .col(number_or_null("size"))
            .col(number_or_null("plain_size"))
            .col(name_or_null("sha256", 64))
            .col(name_or_null("plain_sha256", 64))
            .col(number_or_null("duration_ms"))
            .col(document_or_null(manager, "stored"))
            .col(flag("hold"))
            .col(instant("created_at"))
            .col(instant("updated_at"))
            .col(instant_or_null("stored_at"))
            .col(instant_or_null("deleted_at"));
        manager.create_table(recordings).await?;
        manager.create_index(index("recordings", &["state"], false)).await?;

        let mut audit = table(manager, "audit_log");
        audit
            .col(id("id").primary_key())
            .col(instant("at"))
            .col(name("actor_kind", 16))
            .col(name_or_null("actor_id", 64))
            .col(name("action", 64))
            .col(name_or_null("target_kind", 32))
            .col(name_or_null("target_id", 64))
            .col(name_or_null("address", 64))
            .col(document(manager, "detail"))
            .col(number_or_null("seq"))
            .col(name_or_null("hash", 64));
        manager.create_table(audit).await?;
        manager.create_index(index("audit_log", &["at"], false)).await?;
        manager.create_index(index("audit_log", &["target_id"], false)).await?;
        manager.create_index(index("audit_log", &["seq"], true)).await?;

        let mut keys = table(manager, "signing_keys");
        keys.col(id("kid").primary_key())
            .col(name("purpose", 16))
            .col(name("public_key", 64))
            .col(document(manager, "private_key_sealed"))
            .col(instant("created_at"))
            .col(instant_or_null("retired_at"));
        manager.create_table(keys).await?;

        // One row, sealed: opens only with the right key file.
        let mut canary = table(manager, "key_canary");
        canary.col(id("id").primary_key()).col(document(manager, "sealed"));
        manager.create_table(canary).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &TABLES).await
    }
}
