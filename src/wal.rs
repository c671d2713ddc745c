//! WAL files as the server defines them: their names ([`name`]) and the header of their first page ([`header`]).
//! Pure: bytes in, values out, no I/O.

pub mod header;
pub mod name;
