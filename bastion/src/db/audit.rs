//! What happened, by whom: rows that are only ever added, in the transaction that made them true.

use sea_orm::entity::prelude::*;
use sea_orm::{ConnectionTrait, ExprTrait as _, QueryOrder as _, QuerySelect as _, sea_query::Expr};
use serde_json::{Map, Value};

use super::{Db, DbError, Page, is_conflict, json, paged};

/// An audit row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_log")]
pub struct Model {
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// UTC milliseconds.
    pub at: i64,
    /// `user`, `agent`, `operator` or `system`.
    pub actor_kind: String,
    /// Which.
    pub actor_id: Option<String>,
    /// `noun.verb`.
    pub action: String,
    /// `user`, `asset`, `session`, …
    pub target_kind: Option<String>,
    /// Which.
    pub target_id: Option<String>,
    /// The client's.
    pub address: Option<String>,
    /// JSON object.
    pub detail: String,
    /// Place in the chain, once chained.
    pub seq: Option<i64>,
    /// Hash of the chain up to here, once chained.
    pub hash: Option<String>,
}

/// Nothing is joined.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

/// Which rows to list; `None` means all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Whose action begins so.
    pub action: Option<String>,
    /// Done to this.
    pub target: Option<String>,
    /// At or after, UTC milliseconds.
    pub from: Option<i64>,
    /// Before, UTC milliseconds.
    pub to: Option<i64>,
}

/// The last row of the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Its place; 0: nothing is chained yet.
    pub seq: i64,
    /// Its hash; empty: nothing is chained yet.
    pub hash: String,
    /// Its time, UTC milliseconds.
    pub at: i64,
}

/// The hash of a row by the hash before it; `None` when that is none.
pub type Link = fn(&str, &Model) -> Option<String>;

/// How chaining went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chained {
    /// So many rows.
    Rows(usize),
    /// Another writer was faster; nothing was changed.
    Beaten,
    /// The last hash of the chain is none: somebody wrote to the table by hand.
    Broken,
}

/// Who did it.
#[derive(Clone, Debug)]
pub enum Actor {
    /// A person, by login or token.
    User(String),
    /// An agent, by its verified key.
    Agent(String),
    /// Whoever runs commands on the bastion's host.
    Operator,
    /// The bastion itself.
    System,
    /// Somebody who has not shown who they are.
    Stranger,
}

/// One thing that happened, about to be written.
#[derive(Clone, Debug)]
pub struct Entry(Model);

impl Entry {
    /// `action` is `noun.verb`; `at` is UTC milliseconds.
    pub fn new(at: i64, actor: Actor, action: &'static str) -> Self {
        let (kind, id) = match actor {
            Actor::User(id) => ("user", Some(id)),
            Actor::Agent(id) => ("agent", Some(id)),
            Actor::Operator => ("operator", None),
            Actor::System => ("system", None),
            Actor::Stranger => ("stranger", None),
        };
        Self(Model {
            id: crate::clock::new_id(),
            at,
            actor_kind: kind.to_owned(),
            actor_id: id,
            action: action.to_owned(),
            target_kind: None,
            target_id: None,
            address: None,
            detail: "{}".to_owned(),
            seq: None,
            hash: None,
        })
    }

    /// What it was done to.
    pub fn on(mut self, kind: &'static str, id: &str) -> Self {
        self.0.target_kind = Some(kind.to_owned());
        self.0.target_id = Some(id.chars().take(64).collect());
        self
    }

    /// The client's address.
    pub fn at_address(mut self, address: &str) -> Self {
        self.0.address = Some(address.to_owned());
        self
    }

    /// More, as a JSON object. Never a secret.
    pub fn with(mut self, detail: Value) -> Self {
        let detail = if let Value::Object(map) = detail { map } else { Map::new() };
        self.0.detail = json(&detail);
        self
    }

    /// Writes it within `connection`'s transaction.
    pub(super) async fn write(self, connection: &impl ConnectionTrait) -> Result<(), DbError> {
        Entity::insert(ActiveModel::from(self.0)).exec_without_returning(connection).await?;
        Ok(())
    }
}

impl Db {
    /// Writes what changed nothing else: a refusal, a viewing.
    pub async fn note(&self, entry: Entry) -> Result<(), DbError> {
        entry.write(&self.connection).await
    }

    /// A page of the log, newest first.
    pub async fn audit(&self, filter: &Filter, page: &Page) -> Result<(Vec<Model>, Option<String>), DbError> {
        let mut query = Entity::find().order_by_desc(Column::Id).limit(page.limit + 1);
        if let Some(action) = filter.action.as_deref().filter(|action| !action.is_empty()) {
            query = query.filter(Column::Action.starts_with(action));
        }
        if let Some(target) = &filter.target {
            query = query.filter(Column::TargetId.eq(target));
        }
        if let Some(from) = filter.from {
            query = query.filter(Column::At.gte(from));
        }
        if let Some(to) = filter.to {
            query = query.filter(Column::At.lt(to));
        }
        if let Some(cursor) = &page.cursor {
            query = query.filter(Column::Id.lt(cursor));
        }
        Ok(paged(query.all(&self.connection).await?, page, |row| row.id.clone()))
    }

    /// The chain's last row.
    pub async fn audit_head(&self) -> Result<Head, DbError> {
        head(&self.connection).await
    }

    /// Whether rows wait to be chained. Cheap: one look at an index.
    pub async fn has_unchained(&self) -> Result<bool, DbError> {
        Ok(Entity::find().filter(Column::Seq.is_null()).limit(1).one(&self.connection).await?.is_some())
    }

    /// How many rows wait to be chained.
    pub async fn unchained(&self) -> Result<u64, DbError> {
        Ok(Entity::find().filter(Column::Seq.is_null()).count(&self.connection).await?)
    }

    /// Chains up to `most` of the rows that wait, in order of id, in one transaction.
    ///
    /// Any number of writers may try at once: a row takes a place only while it has none, and no two rows take the
    /// same, so whoever comes second changes nothing at all.
    pub async fn chain_audit(&self, most: u64, link: Link) -> Result<Chained, DbError> {
        match self.try_chain_audit(most, link).await {
            Err(DbError::Duplicate) => Ok(Chained::Beaten),
            Err(error) if is_conflict(&error) => Ok(Chained::Beaten),
            done => done,
        }
    }

    async fn try_chain_audit(&self, most: u64, link: Link) -> Result<Chained, DbError> {
        let tx = self.begin().await?;
        let mut last = head(&tx).await?;
        let rows = Entity::find()
            .filter(Column::Seq.is_null())
            .order_by_asc(Column::Id)
            .limit(most)
            .all(&tx)
            .await?;
        let count = rows.len();
        for mut row in rows {
            row.seq = Some(last.seq + 1);
            let Some(hash) = link(&last.hash, &row) else { return Ok(Chained::Broken) };
            let changed = Entity::update_many()
                .col_expr(Column::Seq, Expr::value(row.seq))
                .col_expr(Column::Hash, Expr::value(hash.clone()))
                .filter(Column::Id.eq(&row.id))
                .filter(Column::Seq.is_null())
                .exec(&tx)
                .await?;
            if changed.rows_affected != 1 {
                return Ok(Chained::Beaten);
            }
            last = Head { seq: last.seq + 1, hash, at: row.at };
        }
        tx.commit().await?;
        Ok(Chained::Rows(count))
    }

    /// The next rows of the chain after place `seq`, at most `limit`, in order.
    pub async fn audit_after(&self, seq: i64, limit: u64) -> Result<Vec<Model>, DbError> {
        let query = Entity::find().filter(Column::Seq.gt(seq)).order_by_asc(Column::Seq).limit(limit);
        Ok(query.all(&self.connection).await?)
    }

    /// Whether one of `actions` was done to `target` after place `seq` of the chain, or is not chained yet.
    pub async fn has_later(&self, target: &str, actions: &[&str], seq: i64) -> Result<bool, DbError> {
        let later = Entity::find()
            .filter(Column::TargetId.eq(target))
            .filter(Column::Action.is_in(actions.iter().copied()))
            .filter(Column::Seq.gt(seq).or(Column::Seq.is_null()))
            .limit(1);
        Ok(later.one(&self.connection).await?.is_some())
    }
}

async fn head(connection: &impl ConnectionTrait) -> Result<Head, DbError> {
    // PostgreSQL would put the rows without a place first.
    let query = Entity::find().filter(Column::Seq.is_not_null()).order_by_desc(Column::Seq).limit(1);
    let row = query.one(connection).await?;
    Ok(row.map_or_else(Head::default, |row| Head {
        seq: row.seq.unwrap_or_default(),
        hash: row.hash.unwrap_or_default(),
        at: row.at,
    }))
}
