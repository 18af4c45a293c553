//! Hosts, the applications of their agents, and the nonces those have used.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLES: [&str; 3] = ["assets", "agent_register_apply", "signature_nonces"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut assets = table(manager, "assets");
        assets
            .col(id("id").primary_key())
            .col(name("hostname", 253))
            .col(document(manager, "client_public_key"))
            .col(name("fingerprint", 64))
            .col(document(manager, "agent_secret_sealed"))
            .col(name_or_null("status", 16))
            .col(document(manager, "labels"))
            .col(document(manager, "proposed_labels"))
            .col(document(manager, "allowed_users"))
            .col(name_or_null("run_as", 64))
            .col(name("version", 64))
            .col(document(manager, "static_info"))
            .col(document(manager, "dynamic_info"))
            .col(document(manager, "tty_status"))
            .col(instant_or_null("last_heartbeat_at"))
            .col(instant_or_null("previous_heartbeat_at"))
            .col(instant("created_at"))
            .col(instant("updated_at"))
            .col(instant_or_null("deleted_at"));
        manager.create_table(assets).await?;
        manager.create_index(index("assets", &["deleted_at", "id"], false)).await?;

        let mut applications = table(manager, "agent_register_apply");
        applications
            .col(id("apply_id").primary_key())
            .col(id("client_id"))
            .col(name("hostname", 253))
            .col(document(manager, "client_public_key"))
            .col(name("fingerprint", 64))
            .col(document(manager, "labels"))
            .col(document(manager, "static_info"))
            .col(name("version", 64))
            .col(name("address", 64))
            .col(name("bucket", 64))
            .col(name("status", 16))
            .col(flag("key_changed"))
            .col(name_or_null("reason", 500))
            .col(instant("created_at"))
            .col(instant("expires_at"))
            .col(instant_or_null("decided_at"))
            .col(name_or_null("decided_by", 64))
            .col(instant_or_null("delivered_at"));
        manager.create_table(applications).await?;
        manager.create_index(index("agent_register_apply", &["client_id", "fingerprint"], false)).await?;
        manager.create_index(index("agent_register_apply", &["status", "expires_at"], false)).await?;

        let mut nonces = table(manager, "signature_nonces");
        nonces
            .col(id("keyid"))
            .col(name("nonce", 32))
            .col(instant("expires_at"))
            .primary_key(Index::create().col(Alias::new("keyid")).col(Alias::new("nonce")));
        manager.create_table(nonces).await?;
        manager.create_index(index("signature_nonces", &["expires_at"], false)).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &TABLES).await
    }
}
