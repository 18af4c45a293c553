//! What happened, by whom: rows that are only ever added, in the transaction that made them true.

use sea_orm::entity::prelude::*;
use sea_orm::{ConnectionTrait, QueryOrder as _, QuerySelect as _};
use serde_json::{Map, Value};

use super::{Db, DbError, Page, json, paged};

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

    /// A page of the log, newest first: actions that begin with `action`, from `from` until before `to`.
    pub async fn audit(
        &self,
        action: Option<&str>,
        from: Option<i64>,
        to: Option<i64>,
        page: &Page,
    ) -> Result<(Vec<Model>, Option<String>), DbError> {
        let mut query = Entity::find().order_by_desc(Column::Id).limit(page.limit + 1);
        if let Some(action) = action.filter(|action| !action.is_empty()) {
            query = query.filter(Column::Action.starts_with(action));
        }
        if let Some(from) = from {
            query = query.filter(Column::At.gte(from));
        }
        if let Some(to) = to {
            query = query.filter(Column::At.lt(to));
        }
        if let Some(cursor) = &page.cursor {
            query = query.filter(Column::Id.lt(cursor));
        }
        Ok(paged(query.all(&self.connection).await?, page, |row| row.id.clone()))
    }
}
