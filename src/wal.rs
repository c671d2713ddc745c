//! WAL files as the server defines them: their names ([`name`]), addresses in WAL ([`lsn`]), the header of a segment's
//! first page ([`header`]) with what can be wrong with it ([`flaw`]), the records of a segment ([`records`], each as in
//! [`record`], on pages as in [`page`]) with what ends reading them ([`damage`]), and the files that tell the history of
//! timelines ([`history`]). Pure: bytes in, values out, no I/O.

pub mod damage;
pub mod flaw;
pub mod header;
pub mod history;
pub mod lsn;
pub mod name;
mod page;
mod record;
pub mod records;
