//! Rows: the one place that knows the database. One file a noun, each adding its queries to [`Db`].

use std::time::Duration;

use sea_orm::{
    AccessMode, ConnectOptions, ConnectionTrait, Database, DatabaseBackend, DatabaseConnection,
    DatabaseTransaction, DbErr, IsolationLevel, RuntimeErr, SqlErr, SqliteTransactionMode, Statement,
    TransactionOptions, TransactionTrait, sqlx,
};

pub mod assets;
pub mod audit;
pub mod decisions;
pub mod keys;
pub mod logins;
pub mod nonces;
pub mod policies;
pub mod recordings;
pub mod registrations;
pub mod sessions;
pub mod slots;
pub mod tickets;
pub mod tokens;
pub mod users;

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// A row with the same unique key is there already.
    #[error("already there")]
    Duplicate,
    /// A stored document does not parse: somebody wrote to the table by hand, or it is damaged.
    #[error("{column} of {row} is damaged: {source}")]
    Damaged {
        /// Which column.
        column: &'static str,
        /// Which row.
        row: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// Anything else: unreachable, locked, full.
    #[error("database: {0}")]
    Unavailable(DbErr),
}

impl From<DbErr> for DbError {
    fn from(error: DbErr) -> Self {
        match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(_)) => DbError::Duplicate,
            _ => DbError::Unavailable(error),
        }
    }
}

/// A pool of connections to the one database.
#[derive(Clone, Debug)]
pub struct Db {
    connection: DatabaseConnection,
}

/// A page of a list: rows after `cursor`, at most `limit`.
#[derive(Clone, Debug)]
pub struct Page {
    /// The last id of the page before; rows come in descending order of id unless said otherwise.
    pub cursor: Option<String>,
    /// 1..=200.
    pub limit: u64,
}

impl Db {
    /// Connects, making a SQLite database that is not there, and brings the schema up to date.
    pub async fn open(url: &str) -> Result<Self, DbError> {
        make_private(url);
        let db = Self { connection: connect(url, true).await? };
        db.migrate().await?;
        Ok(db)
    }

    /// Connects to a database that is there, and leaves its schema as it is.
    pub async fn open_existing(url: &str) -> Result<Self, DbError> {
        Ok(Self { connection: connect(url, false).await? })
    }

    async fn migrate(&self) -> Result<(), DbError> {
        use migrations::MigratorTrait as _;
        migrations::Migrator::up(&self.connection, None).await?;
        Ok(())
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), DbError> {
        self.connection
            .query_one_raw(Statement::from_string(self.connection.get_database_backend(), "SELECT 1"))
            .await?;
        Ok(())
    }

    /// A transaction that sees what others have committed at each statement, and on SQLite takes the
    /// write lock at once: upgrading a read lock later fails without waiting.
    async fn begin(&self) -> Result<DatabaseTransaction, DbError> {
        let sqlite = self.connection.get_database_backend() == DatabaseBackend::Sqlite;
        let options = TransactionOptions {
            isolation_level: (!sqlite).then_some(IsolationLevel::ReadCommitted),
            access_mode: (!sqlite).then_some(AccessMode::ReadWrite),
            sqlite_transaction_mode: sqlite.then_some(SqliteTransactionMode::Immediate),
        };
        Ok(self.connection.begin_with_options(options).await?)
    }
}

async fn connect(url: &str, create: bool) -> Result<DatabaseConnection, DbErr> {
    let mut options = ConnectOptions::new(url);
    options
        .sqlx_logging(false)
        .max_connections(if url.starts_with("sqlite") { 8 } else { 20 })
        .acquire_timeout(Duration::from_secs(5))
        .connect_timeout(Duration::from_secs(10))
        .map_sqlx_sqlite_opts(move |options| {
            options
                .create_if_missing(create)
                .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
                // With WAL this keeps the file whole through a crash; a power cut may cost the last rows.
                .synchronous(sqlx::sqlite::SqliteSynchronous::Normal)
                .busy_timeout(Duration::from_secs(5))
                .foreign_keys(true)
        });
    Database::connect(options).await
}

/// Makes SQLite's file before SQLite does, readable by its owner only. What goes wrong SQLite says better.
fn make_private(url: &str) {
    let Some(path) = url.strip_prefix("sqlite://") else { return };
    let path = path.split('?').next().unwrap_or(path);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let _ = options.open(path);
}

/// The rows of one page and the cursor of the next.
fn paged<T>(mut rows: Vec<T>, page: &Page, id: impl Fn(&T) -> String) -> (Vec<T>, Option<String>) {
    let more = rows.len() as u64 > page.limit;
    rows.truncate(usize::try_from(page.limit).unwrap_or(usize::MAX));
    let next = if more { rows.last().map(id) } else { None };
    (rows, next)
}

fn parsed<T: serde::de::DeserializeOwned>(text: &str, column: &'static str, row: &str) -> Result<T, DbError> {
    serde_json::from_str(text).map_err(|source| DbError::Damaged { column, row: row.to_owned(), source })
}

/// JSON text of a value that cannot fail to serialise: maps with string keys, lists, our own structs.
fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// Whether a lock or a serialization conflict made the database refuse; the same transaction may work
/// if tried again.
fn is_conflict(error: &DbError) -> bool {
    let DbError::Unavailable(error) = error else { return false };
    let (DbErr::Exec(RuntimeErr::SqlxError(inner)) | DbErr::Query(RuntimeErr::SqlxError(inner))) = error
    else {
        return false;
    };
    let Some(database) = inner.as_database_error() else { return false };
    if let Some(mysql) = database.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        // Deadlock, lock wait, record changed.
        return matches!(mysql.number(), 1213 | 1205 | 1020);
    }
    // PostgreSQL: serialization, deadlock. SQLite: busy, busy snapshot.
    database.code().is_some_and(|code| matches!(code.as_ref(), "40001" | "40P01" | "5" | "517"))
}
