//! Syncs that several rsyncs share.
