//! Each kind of data from its template to a report, and what is said where a loss does not fit the data.

#[path = "../support/mod.rs"]
mod support;

mod helpers;

mod heads;
mod labels;
mod masks;
mod pairs;
mod parsed;
mod parts;
mod scorers;
mod solids;
mod targets;
mod two_kinds;
mod views;
