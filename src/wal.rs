//! WAL files as the server defines them: their names ([`name`]), the header of their first page ([`header`]) and the
//! files that tell the history of timelines ([`history`]). Pure: bytes in, values out, no I/O.

pub mod header;
pub mod history;
pub mod name;
