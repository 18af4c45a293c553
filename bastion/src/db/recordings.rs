//! Recordings: where each stands and where it lies.

use sea_orm::entity::prelude::*;
use sea_orm::{
    ActiveValue::Set,
    Condition, JoinType, QueryOrder as _, QuerySelect as _, QueryTrait as _,
    sea_query::{Expr, LikeExpr},
};

use super::{Db, DbError, Page, assets, audit::Entry, paged, sessions, users};

/// States of a recording that is there for nobody any more.
const GONE: [&str; 2] = ["deleting", "deleted"];

/// A recording's row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "recordings")]
pub struct Model {
    /// The session's id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub session_id: String,
    /// `recording`, `spooled`, `uploading`, `stored`, `failed`, `deleting`, `deleted`.
    pub state: String,
    /// Why it is not stored yet, or why the store does not let go of it.
    pub reason: Option<String>,
    /// Where the stored cast lies.
    pub object_key: Option<String>,
    /// `zstd` or `none`.
    pub compression: Option<String>,
    /// Bytes of the stored object.
    pub size: Option<i64>,
    /// Bytes of the plain cast.
    pub plain_size: Option<i64>,
    /// Hex, of the stored object.
    pub sha256: Option<String>,
    /// Hex, of the plain cast.
    pub plain_sha256: Option<String>,
    /// Of the session.
    pub duration_ms: Option<i64>,
    /// JSON: all that is known of the stored object.
    pub stored: Option<String>,
    /// Not to be deleted.
    pub hold: bool,
    /// UTC milliseconds.
    pub created_at: i64,
    /// UTC milliseconds.
    pub updated_at: i64,
    /// UTC milliseconds.
    pub stored_at: Option<i64>,
    /// UTC milliseconds.
    pub deleted_at: Option<i64>,
}

/// Nothing is joined.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}
impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// A recording that has just begun.
    pub fn begun(session: &str, now: i64) -> Self {
        Self {
            session_id: session.to_owned(),
            state: "recording".to_owned(),
            reason: None,
            object_key: None,
            compression: None,
            size: None,
            plain_size: None,
            sha256: None,
            plain_sha256: None,
            duration_ms: None,
            stored: None,
            hold: false,
            created_at: now,
            updated_at: now,
            stored_at: None,
            deleted_at: None,
        }
    }
}

/// What became of the wish to delete a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It is marked: nobody sees it any more, and its objects go.
    Marked,
    /// It is held.
    Held,
    /// It is not stored, or not yet.
    NotStored,
    /// There is none.
    Unknown,
}

impl Db {
    /// Writes a recording's row, new or changed, and `entry` with it. What comes late or twice changes nothing: a
    /// stored recording stays stored until it is stored anew. One that was deleted and comes to the store again, by
    /// an upload that was under way, is to be removed again.
    pub async fn keep_recording(&self, told: Model, entry: Option<Entry>) -> Result<(), DbError> {
        let tx = self.begin().await?;
        let known = Entity::find_by_id(&told.session_id).lock_exclusive().one(&tx).await?;
        let Some(known) = known else {
            Entity::insert(ActiveModel::from(told)).exec_without_returning(&tx).await?;
            if let Some(entry) = entry {
                entry.write(&tx).await?;
            }
            return Ok(tx.commit().await?);
        };
        let is_stored = told.state == "stored";
        if GONE.contains(&known.state.as_str()) {
            if is_stored {
                remove_again(known, &told).update(&tx).await?;
                tx.commit().await?;
            }
            return Ok(());
        }
        let late = known.state == "stored" && !is_stored;
        let twice = known.state == told.state && known.stored == told.stored && known.reason == told.reason;
        if late || twice {
            return Ok(());
        }
        let mut row = ActiveModel::from(told).reset_all();
        row.created_at = Set(known.created_at);
        row.hold = Set(known.hold);
        row.update(&tx).await?;
        if let Some(entry) = entry {
            entry.write(&tx).await?;
        }
        Ok(tx.commit().await?)
    }

    /// The recording of this session, unless it was deleted.
    pub async fn recording(&self, session: &str) -> Result<Option<Model>, DbError> {
        let row = Entity::find_by_id(session).one(&self.connection).await?;
        Ok(row.filter(|row| !GONE.contains(&row.state.as_str())))
    }

    /// Holds a recording, or lets it go; false when it was so, or is not there.
    pub async fn hold_recording(
        &self,
        session: &str,
        hold: bool,
        now: i64,
        entry: Entry,
    ) -> Result<bool, DbError> {
        let tx = self.begin().await?;
        let changed = Entity::update_many()
            .col_expr(Column::Hold, Expr::value(hold))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::SessionId.eq(session))
            .filter(Column::Hold.eq(!hold))
            .filter(Column::State.is_not_in(GONE))
            .exec(&tx)
            .await?;
        if changed.rows_affected != 1 {
            return Ok(false);
        }
        entry.write(&tx).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Marks a stored recording that nobody holds as about to go; `entry` is its tombstone.
    pub async fn delete_recording(&self, session: &str, now: i64, entry: Entry) -> Result<Deletion, DbError> {
        let tx = self.begin().await?;
        let changed = Entity::update_many()
            .col_expr(Column::State, Expr::value("deleting"))
            .col_expr(Column::Reason, Expr::value(None::<String>))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::SessionId.eq(session))
            .filter(Column::State.eq("stored"))
            .filter(Column::Hold.eq(false))
            .exec(&tx)
            .await?;
        if changed.rows_affected != 1 {
            let row = Entity::find_by_id(session).one(&tx).await?;
            let row = row.filter(|row| !GONE.contains(&row.state.as_str()));
            return Ok(match row {
                None => Deletion::Unknown,
                Some(row) if row.hold => Deletion::Held,
                Some(_) => Deletion::NotStored,
            });
        }
        entry.write(&tx).await?;
        tx.commit().await?;
        Ok(Deletion::Marked)
    }

    /// Recordings that are about to go, after `cursor` in order of session: those that nothing refused, or refused
    /// last before `refused_before`.
    pub async fn recordings_going(
        &self,
        cursor: &str,
        refused_before: i64,
        limit: u64,
    ) -> Result<Vec<Model>, DbError> {
        let due = Condition::any().add(Column::Reason.is_null()).add(Column::UpdatedAt.lte(refused_before));
        let query = Entity::find()
            .filter(Column::State.eq("deleting"))
            .filter(Column::SessionId.gt(cursor))
            .filter(due)
            .order_by_asc(Column::SessionId)
            .limit(limit);
        Ok(query.all(&self.connection).await?)
    }

    /// Recordings that have gone since, after `cursor` in order of session.
    pub async fn recordings_gone(&self, since: i64, cursor: &str, limit: u64) -> Result<Vec<Model>, DbError> {
        let query = Entity::find()
            .filter(Column::State.eq("deleted"))
            .filter(Column::DeletedAt.gte(since))
            .filter(Column::SessionId.gt(cursor))
            .order_by_asc(Column::SessionId)
            .limit(limit);
        Ok(query.all(&self.connection).await?)
    }

    /// The objects of a recording are gone; false when its row has changed since `seen` was read.
    pub async fn recording_is_gone(&self, seen: &Model, now: i64) -> Result<bool, DbError> {
        let changed = Entity::update_many()
            .col_expr(Column::State, Expr::value("deleted"))
            .col_expr(Column::Reason, Expr::value(None::<String>))
            .col_expr(Column::DeletedAt, Expr::value(now))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::SessionId.eq(&seen.session_id))
            .filter(Column::State.eq("deleting"))
            .filter(Column::UpdatedAt.eq(seen.updated_at))
            .exec(&self.connection)
            .await?;
        Ok(changed.rows_affected == 1)
    }

    /// The store refuses to let go of a recording, and why.
    pub async fn recording_is_kept(&self, seen: &Model, reason: &str, now: i64) -> Result<(), DbError> {
        Entity::update_many()
            .col_expr(Column::Reason, Expr::value(reason))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::SessionId.eq(&seen.session_id))
            .filter(Column::State.eq("deleting"))
            .filter(Column::UpdatedAt.eq(seen.updated_at))
            .exec(&self.connection)
            .await?;
        Ok(())
    }

    /// Stored recordings that nobody holds, of sessions that ended at or before `ended`; oldest first.
    pub async fn recordings_expired(&self, ended: i64, limit: u64) -> Result<Vec<Model>, DbError> {
        let session =
            Entity::belongs_to(sessions::Entity).from(Column::SessionId).to(sessions::Column::Id).into();
        let query = Entity::find()
            .join(JoinType::InnerJoin, session)
            .filter(Column::State.eq("stored"))
            .filter(Column::Hold.eq(false))
            // What ended began before; this is what the index is over.
            .filter(sessions::Column::CreatedAt.lte(ended))
            .filter(sessions::Column::EndedAt.lte(ended))
            .order_by_asc(Column::SessionId)
            .limit(limit);
        Ok(query.all(&self.connection).await?)
    }

    /// Recordings of some sessions.
    pub async fn recordings_of(&self, sessions: Vec<String>) -> Result<Vec<Model>, DbError> {
        Ok(Entity::find().filter(Column::SessionId.is_in(sessions)).all(&self.connection).await?)
    }

    /// A page of recordings with their sessions, newest first. `q` is part of the session's id, the user's
    /// name or the host's.
    pub async fn recordings(
        &self,
        filter: &sessions::Filter,
        q: Option<&str>,
        page: &Page,
    ) -> Result<(Vec<(Model, sessions::Model)>, Option<String>), DbError> {
        let session =
            Entity::belongs_to(sessions::Entity).from(Column::SessionId).to(sessions::Column::Id).into();
        let mut query = Entity::find()
            .join(JoinType::InnerJoin, session)
            .filter(Column::State.is_not_in(GONE))
            .order_by_desc(Column::SessionId)
            .limit(page.limit + 1);
        if let Some(user) = &filter.user {
            query = query.filter(sessions::Column::UserId.eq(user));
        }
        if let Some(asset) = &filter.asset {
            query = query.filter(sessions::Column::AssetId.eq(asset));
        }
        if let Some(from) = filter.from {
            query = query.filter(sessions::Column::CreatedAt.gte(from));
        }
        if let Some(to) = filter.to {
            query = query.filter(sessions::Column::CreatedAt.lt(to));
        }
        if let Some(cursor) = &page.cursor {
            query = query.filter(Column::SessionId.lt(cursor));
        }
        if let Some(q) = q.filter(|q| !q.is_empty()) {
            let has_it = has(q);
            let users = users::Entity::find()
                .select_only()
                .column(users::Column::Id)
                .filter(users::Column::Username.like(has_it.clone()))
                .into_query();
            let assets = assets::Entity::find()
                .select_only()
                .column(assets::Column::Id)
                .filter(assets::Column::Hostname.like(has_it.clone()))
                .into_query();
            query = query.filter(
                Condition::any()
                    .add(Column::SessionId.like(has_it))
                    .add(sessions::Column::UserId.in_subquery(users))
                    .add(sessions::Column::AssetId.in_subquery(assets)),
            );
        }
        let (rows, next) = paged(query.all(&self.connection).await?, page, |row| row.session_id.clone());
        let ids: Vec<_> = rows.iter().map(|row| row.session_id.clone()).collect();
        let mut sessions: std::collections::HashMap<_, _> = sessions::Entity::find()
            .filter(sessions::Column::Id.is_in(ids))
            .all(&self.connection)
            .await?
            .into_iter()
            .map(|session| (session.id.clone(), session))
            .collect();
        let pairs = rows.into_iter().filter_map(|row| {
            let session = sessions.remove(&row.session_id)?;
            Some((row, session))
        });
        Ok((pairs.collect(), next))
    }
}

/// What has `q` in it, each of its characters for itself. Not escaped by a backslash, which MySQL would not take.
fn has(q: &str) -> LikeExpr {
    let mut pattern = String::from("%");
    for one in q.chars() {
        if matches!(one, '!' | '%' | '_') {
            pattern.push('!');
        }
        pattern.push(one);
    }
    pattern.push('%');
    LikeExpr::new(pattern).escape('!')
}

/// A row whose objects were put after it was marked: it is marked anew, so that who removes them looks again.
fn remove_again(known: Model, told: &Model) -> ActiveModel {
    let updated_at = told.updated_at.max(known.updated_at + 1);
    let mut row = ActiveModel::from(known);
    row.state = Set("deleting".to_owned());
    row.reason = Set(None);
    row.object_key = Set(told.object_key.clone());
    row.stored = Set(told.stored.clone());
    row.deleted_at = Set(None);
    row.updated_at = Set(updated_at);
    row
}
