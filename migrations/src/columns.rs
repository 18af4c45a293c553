//! The few column types the schema is made of, alike on every database.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;

/// An id, a hash or a short name: at most `length` characters, never null.
pub(crate) fn name(column: &'static str, length: u32) -> ColumnDef {
    ColumnDef::new(Alias::new(column)).string_len(length).not_null().take()
}

/// A [`name`] that may be absent.
pub(crate) fn name_or_null(column: &'static str, length: u32) -> ColumnDef {
    ColumnDef::new(Alias::new(column)).string_len(length).null().take()
}

/// An id of ours or of an agent.
pub(crate) fn id(column: &'static str) -> ColumnDef {
    name(column, 64)
}

/// UTC milliseconds.
pub(crate) fn instant(column: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(column)).big_integer().not_null().take()
}

/// UTC milliseconds, or not yet.
pub(crate) fn instant_or_null(column: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(column)).big_integer().null().take()
}

/// A count or a size.
pub(crate) fn count(column: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(column)).big_integer().not_null().default(0).take()
}

/// A number that may be absent.
pub(crate) fn number_or_null(column: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(column)).big_integer().null().take()
}

/// Yes or no; no by default.
pub(crate) fn flag(column: &'static str) -> ColumnDef {
    ColumnDef::new(Alias::new(column)).boolean().not_null().default(false).take()
}

/// JSON or other text of up to some megabytes.
pub(crate) fn document(manager: &SchemaManager<'_>, column: &'static str) -> ColumnDef {
    long_text(manager, column).not_null().take()
}

/// A [`document`] that may be absent.
pub(crate) fn document_or_null(manager: &SchemaManager<'_>, column: &'static str) -> ColumnDef {
    long_text(manager, column).null().take()
}

fn long_text(manager: &SchemaManager<'_>, column: &'static str) -> ColumnDef {
    let mut definition = ColumnDef::new(Alias::new(column));
    // MySQL's TEXT ends at 64 KiB and cuts silently outside strict mode.
    if manager.get_database_backend() == DatabaseBackend::MySql {
        definition.custom(Alias::new("mediumtext"));
    } else {
        definition.text();
    }
    definition
}

/// A new table. On MySQL and MariaDB every text compares bytewise, as on the others: a hash or a
/// user name that differs in case is another one.
pub(crate) fn table(manager: &SchemaManager<'_>, name: &'static str) -> TableCreateStatement {
    let mut table = Table::create();
    table.table(Alias::new(name));
    if manager.get_database_backend() == DatabaseBackend::MySql {
        table.engine("InnoDB").character_set("utf8mb4").collate("utf8mb4_bin");
    }
    table
}

/// An index over `columns`, named after its table.
pub(crate) fn index(table: &'static str, columns: &[&'static str], unique: bool) -> IndexCreateStatement {
    let mut index = Index::create();
    index.name(format!("ix_{table}_{}", columns.join("_"))).table(Alias::new(table));
    for column in columns {
        index.col(Alias::new(*column));
    }
    if unique {
        index.unique();
    }
    index
}

/// Drops `tables`, newest first.
pub(crate) async fn drop_tables(manager: &SchemaManager<'_>, tables: &[&'static str]) -> Result<(), DbErr> {
    for name in tables.iter().rev() {
        manager.drop_table(Table::drop().table(Alias::new(*name)).take()).await?;
    }
    Ok(())
}
