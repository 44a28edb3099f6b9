use std::sync::PoisonError;

use super::*;
use crate::ledger::tables::{Order, ReadTables, Tables};
use crate::store::open::{CACHE_BYTES, Opening, open_with};
use crate::store::staged::Image;
use crate::store::{Opened, Storage};

/// More rows than are moved at a time.
const ROWS: u16 = 5_000;

fn opens(image: &Image, steps: &'static [Step]) -> Result<Opened, StoreError> {
    let opening = Opening {
        steps,
        ..Opening::new(CACHE_BYTES)
    };
    open_with(Storage::Backend(Box::new(image.clone())), opening)
}

fn bytes(image: &Image) -> Vec<u8> {
    image
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

/// A wallet of format 1 with some tokens.
fn first() -> Image {
    let image = Image::default();
    let opened = opens(&image, &[]).unwrap();
    let mut write = opened.write().unwrap();
    for n in 0..ROWS {
        write.put(Table::Tokens, &n.to_be_bytes(), b"old").unwrap();
    }
    write.commit().unwrap();
    drop(opened);
    image
}

/// Moves the tokens away, changed, and back.
fn to_2(old: &mut Migration<'_>) -> Result<(), StoreError> {
    assert!(!old.rows("tokens-1", None, 1)?.is_empty(), "it ran before");
    old.rewrite("tokens-1", "tokens-x", |key, row| Ok([key, row].concat()))
}

fn to_3(old: &mut Migration<'_>) -> Result<(), StoreError> {
    old.rewrite("tokens-x", "tokens-1", |_, row| Ok([row, b"+"].concat()))
}

fn fails(old: &mut Migration<'_>) -> Result<(), StoreError> {
    to_3(old)?;
    Err(StoreError::Io("no".into()))
}

#[test]
fn the_steps_lead_to_the_present_format() {
    assert_eq!(version_after(STEPS), FORMAT_VERSION);
}

#[test]
fn each_step_runs_once_in_order_and_every_row_goes_through_it() {
    let image = first();
    drop(opens(&image, &[to_2]).unwrap());
    for _ in 0..2 {
        let opened = opens(&image, &[to_2, to_3]).unwrap();
        let read = opened.read().unwrap();
        let rows = read.scan(Table::Tokens, &[], None, Order::Ascending, usize::MAX);
        let rows = rows.unwrap();
        assert_eq!(rows.len(), usize::from(ROWS));
        for (key, row) in rows {
            assert_eq!(row, [key.as_slice(), b"old+"].concat());
        }
        drop(read);
        drop(opened);
    }
    // What knows fewer formats leaves it alone.
    let before = bytes(&image);
    let refused = opens(&image, &[to_2]);
    assert!(matches!(refused, Err(StoreError::Newer(..))));
    assert!(bytes(&image) == before);
}

#[test]
fn a_step_that_fails_leaves_the_file_to_the_byte() {
    let image = first();
    let before = bytes(&image);
    let refused = opens(&image, &[to_2, fails]);
    assert!(matches!(refused, Err(StoreError::Io(why)) if why == "no"));
    assert!(bytes(&image) == before);
    assert!(opens(&image, &[]).is_ok());
}

#[test]
fn a_table_that_is_missing_is_made() {
    let image = Image::default();
    let opened = opens(&image, STEPS).unwrap();
    let write = opened.write().unwrap();
    write.raw().delete_table(definition(Table::Outbox)).unwrap();
    write.commit().unwrap();
    drop(opened);
    let opened = opens(&image, STEPS).unwrap();
    assert_eq!(
        opened.read().unwrap().get(Table::Outbox, b"x").unwrap(),
        None
    );
}
