//! The schema on every database: up, down and up again; text compares bytewise. The runner names a server
//! that is not there as skipped.

use migrations::{Migrator, MigratorTrait as _};
use sea_orm::{ConnectionTrait as _, Database, DatabaseBackend, DatabaseConnection, Statement};
use tempfile::TempDir;

use agent::Shell;
use bastion::config::DatabaseUrl;

use crate::harness::Bastion;

/// What a query answers, all columns as text.
pub async fn rows(db: &DatabaseConnection, sql: &str) -> Vec<Vec<String>> {
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let rows = db.query_all_raw(statement).await.unwrap();
    rows.iter()
        .map(|row| (0..row.column_names().len()).map(|at| row.try_get_by_index(at).unwrap()).collect())
        .collect()
}

async fn tables(db: &DatabaseConnection) -> Vec<String> {
    let sql = match db.get_database_backend() {
        DatabaseBackend::Sqlite => {
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        }
        DatabaseBackend::Postgres => "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'",
        _ => "SELECT CAST(table_name AS CHAR) FROM information_schema.tables WHERE table_schema = DATABASE()",
    };
    let mut names: Vec<_> =
        rows(db, sql).await.into_iter().flatten().filter(|name| name != "seaql_migrations").collect();
    names.sort();
    names
}

/// Up, down and up again.
async fn migrated(db: &DatabaseConnection) {
    Migrator::up(db, None).await.unwrap();
    let first = tables(db).await;
    for table in
        ["users", "assets", "agent_register_apply", "tickets", "tty_sessions", "recordings", "audit_log"]
    {
        assert!(first.iter().any(|it| it == table), "{table}: {first:?}");
    }
    Migrator::up(db, None).await.unwrap();
    Migrator::down(db, None).await.unwrap();
    assert_eq!(tables(db).await, Vec::<String>::new());
    Migrator::up(db, None).await.unwrap();
    assert_eq!(tables(db).await, first);
}

/// A database of one's own on a server, gone at the end.
pub struct Own {
    server: DatabaseConnection,
    name: String,
    /// Its own.
    pub url: String,
}

impl Own {
    /// A new one.
    pub async fn on(server_url: &str) -> Self {
        let server = Database::connect(server_url).await.unwrap();
        let name = format!("castellan_{}", uuid::Uuid::new_v4().simple());
        server.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
        let url = format!("{}/{name}", server_url.rsplit_once('/').unwrap().0);
        Self { server, name, url }
    }

    /// No more of it.
    pub async fn drop(self) {
        let force = if self.server.get_database_backend() == DatabaseBackend::Postgres {
            " WITH (FORCE)"
        } else {
            ""
        };
        self.server.execute_unprepared(&format!("DROP DATABASE {}{force}", self.name)).await.unwrap();
    }
}

/// Every text column, as `table.column`, and how it compares.
async fn collations(db: &DatabaseConnection) -> Vec<Vec<String>> {
    let sql = "SELECT CAST(CONCAT(table_name, '.', column_name) AS CHAR), CAST(collation_name AS CHAR) \
        FROM information_schema.columns WHERE table_schema = DATABASE() AND collation_name IS NOT NULL \
        AND table_name <> 'seaql_migrations'";
    rows(db, sql).await
}

/// From an application to a stored recording.
async fn works_on(url: &str) {
    let bastion = Bastion::start_with(|config| config.database.url = DatabaseUrl::new(url)).await;
    let alice = bastion.user("alice", "user").await;
    bastion.host("web-1", Shell::Login, &[&alice]).await;
    let mut terminal = alice.run("web-1", "echo 终端 🏯").await;
    assert_eq!(terminal.ended().await.closed.code, 1000);
    let cast = crate::recordings::stored_cast(&alice, &terminal.session).await;
    assert_eq!(crate::recordings::output_of(&cast), "终端 🏯\r\n");
    crate::finding::looked_for_as_text(&alice).await;
    let found = alice.get("/recordings/search?q=%F0%9F%8F%AF").await.expect(200);
    assert_eq!(found["items"][0]["lines"][0]["line"], "终端 🏯", "{found}");
    // Names compare bytewise: another case or accent is another user, and 终端 🏯 survives.
    for name in ["Alice", "alicé", "终端 🏯"] {
        bastion.user(name, "user").await.get("/me").await.expect(200);
    }
    let taken = bastion.operator().add_user("Alice", crate::harness::PASSWORD.to_owned(), "user").await;
    assert!(taken.is_err(), "{taken:?}");
    bastion.stop().await;
}

#[tokio::test]
async fn sqlite_migrates_up_down_and_up() {
    let home = TempDir::new().unwrap();
    let url = format!("sqlite://{}?mode=rwc", home.path().join("it.db").display());
    migrated(&Database::connect(&url).await.unwrap()).await;
}

#[tokio::test]
async fn postgres_migrates_up_down_and_up() {
    let Ok(server) = std::env::var("CASTELLAN_TEST_POSTGRES") else { return };
    let own = Own::on(&server).await;
    let db = Database::connect(&own.url).await.unwrap();
    migrated(&db).await;
    let times = rows(
        &db,
        "SELECT table_name || '.' || column_name, data_type::text FROM information_schema.columns \
         WHERE table_schema = 'public' AND (column_name LIKE '%\\_at' OR column_name = 'lease_until') \
         AND table_name <> 'seaql_migrations'",
    )
    .await;
    assert!(times.len() > 20, "{times:?}");
    assert!(times.iter().all(|time| time[1] == "bigint"), "{times:?}");
    db.close().await.unwrap();
    own.drop().await;
}

#[tokio::test]
async fn mariadb_migrates_up_down_and_up_and_compares_text_bytewise() {
    let Ok(server) = std::env::var("CASTELLAN_TEST_MARIADB") else { return };
    let own = Own::on(&server).await;
    let db = Database::connect(&own.url).await.unwrap();
    migrated(&db).await;
    let columns = collations(&db).await;
    assert!(columns.len() > 40, "{columns:?}");
    let others: Vec<_> = columns.iter().filter(|column| column[1] != "utf8mb4_bin").collect();
    assert!(others.is_empty(), "{others:?}");
    db.close().await.unwrap();
    own.drop().await;
}

#[tokio::test]
async fn a_terminal_works_on_postgres() {
    let Ok(server) = std::env::var("CASTELLAN_TEST_POSTGRES") else { return };
    let own = Own::on(&server).await;
    works_on(&own.url).await;
    own.drop().await;
}

#[tokio::test]
async fn a_terminal_works_on_mariadb() {
    let Ok(server) = std::env::var("CASTELLAN_TEST_MARIADB") else { return };
    let own = Own::on(&server).await;
    works_on(&own.url).await;
    own.drop().await;
}
