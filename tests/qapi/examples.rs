//! Whether the examples in the schema's documentation tell the truth.

use super::generator::conform::Table;
use super::generator::doc::Direction;
use super::generator::model::{Entity, Kind};
use super::schema;
use blkfault::qapi::introspect;
use blkfault::qapi::{Command, Event};
use serde_json::{Map, Value};

#[test]
fn every_command_has_an_example_that_it_accepts_and_writes_back() {
    let schema = schema();
    for entity in schema.entities.iter().filter(|entity| is_command(entity)) {
        let requests = messages(entity, Direction::FromClient);
        assert!(!requests.is_empty(), "'{}' has no example", entity.name);
        for request in requests {
            assert_eq!(request["execute"], entity.name.as_str());
            let arguments = request.get("arguments").cloned();
            let members = arguments.as_ref().and_then(Value::as_object).cloned();
            let command = Command::parse(&entity.name, members.unwrap_or_default())
                .unwrap_or_else(|error| panic!("{request}: {error}"));
            assert_eq!(command.name(), entity.name);
            let empty = Value::Object(Map::new());
            assert_eq!(
                command.to_arguments().as_ref().unwrap_or(&empty),
                arguments.as_ref().unwrap_or(&empty),
            );
        }
    }
}

#[test]
fn every_example_of_a_reply_is_of_the_type_that_introspection_promises() {
    let schema = schema();
    let introspection = introspect::schema();
    let table = Table(introspection.as_array().expect("a list"));
    for entity in schema.entities.iter().filter(|entity| is_command(entity)) {
        let replies = messages(entity, Direction::ToClient);
        assert_eq!(replies.len(), messages(entity, Direction::FromClient).len(), "{}", entity.name);
        for reply in replies {
            let entry = table.entry(&entity.name).expect("commands are introspected");
            if let Err(error) = table.check(entry, "ret-type", &reply["return"]) {
                panic!("{reply}, an example of '{}': {error}", entity.name);
            }
        }
    }
}

#[test]
fn every_event_has_an_example_that_a_client_can_read() {
    let schema = schema();
    let introspection = introspect::schema();
    let table = Table(introspection.as_array().expect("a list"));
    for entity in schema.entities.iter().filter(|entity| matches!(entity.kind, Kind::Event(_))) {
        let events = messages(entity, Direction::ToClient);
        assert!(!events.is_empty(), "'{}' has no example", entity.name);
        for message in events {
            assert_eq!(message["event"], entity.name.as_str());
            let data = message["data"].as_object().cloned().expect("our events all have data");
            let entry = table.entry(&entity.name).expect("events are introspected");
            assert_eq!(table.check(entry, "arg-type", &message["data"]), Ok(()));
            let event = Event::parse(&entity.name, data).expect("the type is the same in Rust");
            assert_eq!(event.name(), entity.name);
            assert_eq!(event.to_data().as_ref(), Some(&message["data"]));
        }
    }
}

fn is_command(entity: &Entity) -> bool {
    matches!(entity.kind, Kind::Command { .. })
}

fn messages(entity: &Entity, direction: Direction) -> Vec<&Value> {
    let examples = entity.docs.examples.iter();
    let sent = examples.filter(|example| example.direction == direction);
    sent.map(|example| &example.message).collect()
}
