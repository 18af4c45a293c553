//! The history of the database schema, for SQLite, PostgreSQL and MySQL/MariaDB; nothing else.
//!
//! Instants are UTC milliseconds in `BIGINT`, ids and hashes are ASCII text that compares bytewise,
//! documents are JSON in text columns: the same shape on every database.

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::prelude::*;

mod columns;
mod m20261123_000001_people;
mod m20261123_000002_assets;
mod m20261123_000003_sessions;
mod m20261123_000004_keeping;

/// Every migration, oldest first. Released ones are never edited.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_people::Migration),
            Box::new(m20261123_000002_assets::Migration),
            Box::new(m20261123_000003_sessions::Migration),
            Box::new(m20261123_000004_keeping::Migration),
        ]
    }
}
