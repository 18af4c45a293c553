//! What whoever runs the bastion's host may do without a login: add users, set passwords, list.

use crate::{
    clock::{self, Clock},
    config::Config,
    db::{
        Db, DbError, Page,
        audit::{Actor, Entry},
        users,
    },
    passwords::{LENGTH, PasswordError, Passwords},
    vault::{Vault, VaultError},
};

/// Why an operator's command failed.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// There is a user of that name.
    #[error("there is a user named {0} already; `castellan user password {0}` sets a new password")]
    Taken(String),
    /// There is no user of that name.
    #[error("there is no user named {0}; `castellan user list` names them")]
    Unknown(String),
    /// The name cannot be used.
    #[error("a user name is 1 to 64 characters, without control characters or spaces at its ends")]
    Name,
    /// The password cannot be used.
    #[error("a password is 12 to 256 bytes long")]
    Password,
    /// The database cannot be opened.
    #[error("database.url: {0}")]
    Db(#[from] DbError),
    /// The key file is missing, wrong or loose.
    #[error("keys.file: {0}")]
    Vault(#[from] VaultError),
    /// The password could not be hashed.
    #[error(transparent)]
    Hash(#[from] PasswordError),
}

/// The bastion's users, reached by its configuration alone.
pub struct Operator {
    db: Db,
    vault: Vault,
    passwords: Passwords,
    clock: Clock,
}

/// A user, as listed.
#[derive(Debug)]
pub struct Listed {
    /// The user's id.
    pub id: String,
    /// The user's name.
    pub username: String,
    /// `admin`, `auditor` or `user`.
    pub role: String,
    /// May not log in.
    pub disabled: bool,
}

impl Operator {
    /// Opens the database, making it and the key file if the bastion has never started.
    ///
    /// # Errors
    /// [`OperatorError`], naming the setting at fault.
    pub async fn open(config: &Config) -> Result<Self, OperatorError> {
        let db = Db::open(config.database.url.expose()).await?;
        let vault = Vault::open(&config.keys.file, &db).await?;
        Ok(Self { db, vault, passwords: Passwords::new()?, clock: Clock::system() })
    }

    /// Adds a user; returns the id. `role` is `admin`, `auditor` or `user`.
    ///
    /// # Errors
    /// [`OperatorError::Taken`] if the name is, and those of the name and the password.
    pub async fn add_user(
        &self,
        username: &str,
        password: String,
        role: &str,
    ) -> Result<String, OperatorError> {
        let good = !username.is_empty()
            && username.chars().count() <= 64
            && username.trim() == username
            && openapi::agents::clean(username, usize::MAX) == username;
        if !good {
            return Err(OperatorError::Name);
        }
        let (id, now) = (clock::new_id(), self.clock.millis());
        let user = users::Model {
            password_hash: self.sealed(&id, password).await?,
            id: id.clone(),
            username: username.to_owned(),
            role: role.to_owned(),
            disabled: false,
            created_at: now,
            updated_at: now,
            last_login_at: None,
        };
        let entry = Entry::new(now, Actor::Operator, "user.create").on("user", &id);
        match self.db.add_user(user, &[], entry).await {
            Ok(()) => Ok(id),
            Err(DbError::Duplicate) => Err(OperatorError::Taken(username.to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets a user's password and ends the user's logins.
    ///
    /// # Errors
    /// [`OperatorError::Unknown`] if there is no such user, and that of the password.
    pub async fn set_password(&self, username: &str, password: String) -> Result<(), OperatorError> {
        let user = self.db.user_named(username).await?;
        let user = user.ok_or_else(|| OperatorError::Unknown(username.to_owned()))?;
        let now = self.clock.millis();
        let hash = self.sealed(&user.id, password).await?;
        let change = users::Change { password_hash: Some(hash), ..Default::default() };
        let entry = Entry::new(now, Actor::Operator, "user.password").on("user", &user.id);
        self.db.change_user(&user.id, change, None, now, entry).await?;
        Ok(())
    }

    /// All users, oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn users(&self) -> Result<Vec<Listed>, OperatorError> {
        let mut page = Page { cursor: None, limit: 200 };
        let mut listed = Vec::new();
        loop {
            let (rows, next) = self.db.users(&page).await?;
            listed.extend(rows.into_iter().map(|row| Listed {
                id: row.id,
                username: row.username,
                role: row.role,
                disabled: row.disabled,
            }));
            if next.is_none() {
                return Ok(listed);
            }
            page.cursor = next;
        }
    }

    /// Whether nobody has been added yet.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn is_new(&self) -> Result<bool, OperatorError> {
        Ok(!self.db.has_users().await?)
    }

    async fn sealed(&self, user: &str, password: String) -> Result<String, OperatorError> {
        if !LENGTH.contains(&password.len()) {
            return Err(OperatorError::Password);
        }
        let phc = self.passwords.hash(password).await?;
        Ok(self.vault.seal(users::hash_place(user), phc.as_bytes())?)
    }
}
