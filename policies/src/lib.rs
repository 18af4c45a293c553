//! May this user open this terminal now, and for how long?
