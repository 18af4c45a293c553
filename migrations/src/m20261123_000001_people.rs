//! Users, their groups, logins and API tokens.

use sea_orm_migration::prelude::*;

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const TABLES: [&str; 4] = ["users", "user_groups", "logins", "api_tokens"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut users = table(manager, "users");
        users
            .col(id("id").primary_key())
            .col(name("username", 64))
            .col(document(manager, "password_hash"))
            .col(name("role", 16))
            .col(flag("disabled"))
            .col(instant("created_at"))
            .col(instant("updated_at"))
            .col(instant_or_null("last_login_at"));
        manager.create_table(users).await?;
        manager.create_index(index("users", &["username"], true)).await?;

        let mut groups = table(manager, "user_groups");
        groups
            .col(id("user_id"))
            .col(name("group_name", 64))
            .primary_key(Index::create().col(Alias::new("user_id")).col(Alias::new("group_name")));
        manager.create_table(groups).await?;
        manager.create_index(index("user_groups", &["group_name"], false)).await?;

        let mut logins = table(manager, "logins");
        logins
            .col(id("id").primary_key())
            .col(id("user_id"))
            .col(name("secret_hash", 64))
            .col(name("address", 64))
            .col(instant("created_at"))
            .col(instant("last_seen_at"))
            .col(instant("expires_at"))
            .col(instant_or_null("ended_at"));
        manager.create_table(logins).await?;
        manager.create_index(index("logins", &["secret_hash"], true)).await?;
        manager.create_index(index("logins", &["user_id", "ended_at"], false)).await?;

        let mut tokens = table(manager, "api_tokens");
        tokens
            .col(id("id").primary_key())
            .col(id("user_id"))
            .col(name("name", 64))
            .col(name("role", 16))
            .col(name("secret_hash", 64))
            .col(instant("created_at"))
            .col(instant_or_null("expires_at"))
            .col(instant_or_null("last_used_at"))
            .col(instant_or_null("revoked_at"));
        manager.create_table(tokens).await?;
        manager.create_index(index("api_tokens", &["secret_hash"], true)).await?;
        manager.create_index(index("api_tokens", &["user_id"], false)).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        drop_tables(manager, &TABLES).await
    }
}
