//! Recordings: where each stands and where it lies.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::LikeExpr;
use sea_orm::{ActiveValue::Set, Condition, JoinType, QueryOrder as _, QuerySelect as _, QueryTrait as _};

use super::{Db, DbError, Page, assets, paged, sessions, users};

/// A recording's row.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "recordings")]
pub struct Model {
    /// The session's id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub session_id: String,
    /// `recording`, `spooled`, `uploading`, `stored`, `failed`.
    pub state: String,
    /// Why it is not stored yet.
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

impl Db {
    /// Writes a recording's row, new or changed.
    pub async fn keep_recording(&self, recording: Model) -> Result<(), DbError> {
        let known = Entity::find_by_id(&recording.session_id).one(&self.connection).await?;
        let row = ActiveModel::from(recording.clone());
        if let Some(known) = known {
            let mut row = row.reset_all();
            row.created_at = Set(known.created_at);
            row.hold = Set(known.hold);
            row.update(&self.connection).await?;
        } else {
            Entity::insert(row).exec_without_returning(&self.connection).await?;
        }
        Ok(())
    }

    /// The recording of this session.
    pub async fn recording(&self, session: &str) -> Result<Option<Model>, DbError> {
        let row = Entity::find_by_id(session).one(&self.connection).await?;
        Ok(row.filter(|row| row.deleted_at.is_none()))
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
            .filter(Column::DeletedAt.is_null())
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
