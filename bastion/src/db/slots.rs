//! Slots of the concurrency limits: lock rows first, then count, then insert, so that no number of
//! parallel tries on any database goes above a limit. A slot counts while its node's lease runs.

use sea_orm::entity::prelude::*;
use sea_orm::{
    ActiveValue::Set,
    ConnectionTrait, JoinType, QuerySelect as _, TryInsertResult,
    sea_query::{Expr, ExprTrait as _},
};

use super::audit::Entry;
use super::{Db, DbError, is_conflict, sessions};

mod locks {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "scope_locks")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub k: String,
        pub seq: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod nodes {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "nodes")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: String,
        pub epoch: i64,
        pub lease_until: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

/// How long a node's lease runs, in milliseconds.
pub const LEASE: i64 = 45_000;

/// A node of the cluster, in one of its lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub id: String,
    /// Counts its lives: what an earlier one held is free.
    pub epoch: i64,
}

/// What a limit counts over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All sessions.
    Global,
    /// Those on one host.
    Asset,
    /// Those of one user.
    User,
    /// Those of one user on one host.
    UserAsset,
}

impl Scope {
    /// As the API and the policy document say it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Scope::Global => "global",
            Scope::Asset => "asset",
            Scope::User => "user",
            Scope::UserAsset => "user_asset",
        }
    }

    fn key(&self, user: &str, asset: &str) -> String {
        match self {
            Scope::Global => "global".to_owned(),
            Scope::Asset => format!("asset:{asset}"),
            Scope::User => format!("user:{user}"),
            Scope::UserAsset => format!("user_asset:{user}:{asset}"),
        }
    }
}

/// A limit to keep when a session opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Over what.
    pub scope: Scope,
    /// How many at most.
    pub limit: u64,
}

/// How opening a session went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The row is there and holds its slots.
    Yes,
    /// A limit is reached.
    Full(Slot),
    /// This node's lease has run out, or a newer life of it began.
    Fenced,
}

/// Live sessions as the limits count them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Live {
    /// Of the user.
    pub user: u64,
    /// On the asset.
    pub asset: u64,
    /// Of the user on the asset.
    pub user_asset: u64,
    /// In all.
    pub global: u64,
}

impl Db {
    /// Begins a new life of the node: what its earlier lives held is free.
    pub async fn begin_node(&self, id: &str, now: i64) -> Result<Node, DbError> {
        let tx = self.begin().await?;
        let before = nodes::Entity::find_by_id(id).one(&tx).await?;
        let epoch = before.as_ref().map_or(1, |node| node.epoch + 1);
        let row = nodes::Model { id: id.to_owned(), epoch, lease_until: now + LEASE };
        if before.is_some() {
            let mut row = nodes::ActiveModel::from(row);
            row.epoch = Set(epoch);
            row.lease_until = Set(now + LEASE);
            row.update(&tx).await?;
        } else {
            nodes::Entity::insert(nodes::ActiveModel::from(row)).exec_without_returning(&tx).await?;
        }
        tx.commit().await?;
        Ok(Node { id: id.to_owned(), epoch })
    }

    /// Renews the lease; false when it ran out or a newer life began.
    pub async fn renew_lease(&self, node: &Node, now: i64) -> Result<bool, DbError> {
        let changed = nodes::Entity::update_many()
            .col_expr(nodes::Column::LeaseUntil, Expr::value(now + LEASE))
            .filter(nodes::Column::Id.eq(&node.id))
            .filter(nodes::Column::Epoch.eq(node.epoch))
            .filter(nodes::Column::LeaseUntil.gt(now))
            .exec(&self.connection)
            .await?;
        Ok(changed.rows_affected == 1)
    }

    /// After the lease ran out: a new life, unless somebody else has begun one.
    pub async fn reclaim_node(&self, node: &Node, now: i64) -> Result<Option<Node>, DbError> {
        let epoch = node.epoch + 1;
        let changed = nodes::Entity::update_many()
            .col_expr(nodes::Column::Epoch, Expr::value(epoch))
            .col_expr(nodes::Column::LeaseUntil, Expr::value(now + LEASE))
            .filter(nodes::Column::Id.eq(&node.id))
            .filter(nodes::Column::Epoch.eq(node.epoch))
            .exec(&self.connection)
            .await?;
        Ok((changed.rows_affected == 1).then(|| Node { id: node.id.clone(), epoch }))
    }

    /// Counts what is live now; only a peek, for a ticket that will be ruled on again.
    pub async fn live(&self, user: &str, asset: &str, now: i64) -> Result<Live, DbError> {
        let count = async |scope: Scope| count(&self.connection, &scope, user, asset, now).await;
        Ok(Live {
            user: count(Scope::User).await?,
            asset: count(Scope::Asset).await?,
            user_asset: count(Scope::UserAsset).await?,
            global: count(Scope::Global).await?,
        })
    }

    /// Adds the session's row, if every limit leaves room for it.
    pub async fn open_session(
        &self,
        session: sessions::Model,
        mut slots: Vec<Slot>,
        now: i64,
        entry: Entry,
    ) -> Result<Opened, DbError> {
        slots.sort_by(|a, b| a.scope.cmp(&b.scope));
        for slot in &slots {
            self.ensure_lock(&slot.scope.key(&session.user_id, &session.asset_id)).await?;
        }
        // The transaction has no effect unless it commits, so a conflict is tried again.
        for _ in 0..4 {
            match self.try_open_session(&session, &slots, now, entry.clone()).await {
                Err(error) if is_conflict(&error) => {}
                done => return done,
            }
        }
        self.try_open_session(&session, &slots, now, entry).await
    }

    async fn try_open_session(
        &self,
        session: &sessions::Model,
        slots: &[Slot],
        now: i64,
        entry: Entry,
    ) -> Result<Opened, DbError> {
        let tx = self.begin().await?;
        for slot in slots {
            let key = slot.scope.key(&session.user_id, &session.asset_id);
            locks::Entity::update_many()
                .col_expr(locks::Column::Seq, Expr::col(locks::Column::Seq).add(1))
                .filter(locks::Column::K.eq(key))
                .exec(&tx)
                .await?;
        }
        for slot in slots {
            let live = count(&tx, &slot.scope, &session.user_id, &session.asset_id, now).await?;
            if live >= slot.limit {
                tx.rollback().await?;
                return Ok(Opened::Full(slot.clone()));
            }
        }
        let holds_lease = nodes::Entity::find_by_id(&session.node_id)
            .filter(nodes::Column::Epoch.eq(session.node_epoch))
            .filter(nodes::Column::LeaseUntil.gt(now))
            .one(&tx)
            .await?
            .is_some();
        if !holds_lease {
            tx.rollback().await?;
            return Ok(Opened::Fenced);
        }
        sessions::Entity::insert(sessions::ActiveModel::from(session.clone()))
            .exec_without_returning(&tx)
            .await?;
        entry.write(&tx).await?;
        tx.commit().await?;
        Ok(Opened::Yes)
    }

    async fn ensure_lock(&self, key: &str) -> Result<(), DbError> {
        let row = locks::ActiveModel { k: Set(key.to_owned()), seq: Set(0) };
        match locks::Entity::insert(row)
            .on_conflict_do_nothing()
            .exec_without_returning(&self.connection)
            .await
            .map_err(DbError::from)
        {
            Ok(TryInsertResult::Inserted(_) | TryInsertResult::Conflicted | TryInsertResult::Empty)
            | Err(DbError::Duplicate) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

async fn count(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    user: &str,
    asset: &str,
    now: i64,
) -> Result<u64, DbError> {
    let lease = sessions::Entity::belongs_to(nodes::Entity)
        .from(sessions::Column::NodeId)
        .to(nodes::Column::Id)
        .into();
    let mut query = sessions::Entity::find()
        .join(JoinType::InnerJoin, lease)
        .filter(
            Expr::col((nodes::Entity, nodes::Column::Epoch))
                .equals((sessions::Entity, sessions::Column::NodeEpoch)),
        )
        .filter(nodes::Column::LeaseUntil.gt(now))
        .filter(sessions::Column::EndedAt.is_null());
    if matches!(scope, Scope::User | Scope::UserAsset) {
        query = query.filter(sessions::Column::UserId.eq(user));
    }
    if matches!(scope, Scope::Asset | Scope::UserAsset) {
        query = query.filter(sessions::Column::AssetId.eq(asset));
    }
    Ok(query.count(connection).await?)
}
