//! The bastion: composes everything; owns every URL and every table.
mod db;
