//! Whether `query-qmp-schema` tells the truth.

use blkfault::qapi::types::{SchemaInfo, SchemaInfoVariant};
use blkfault::qapi::{Command, Event, Path, Visit, introspect};
use serde_json::json;
use std::collections::BTreeSet;

fn table() -> Vec<SchemaInfo> {
    Vec::parse(introspect::schema(), &Path::ROOT).expect("a list of SchemaInfo")
}

fn names(kind: impl Fn(&SchemaInfoVariant) -> bool) -> Vec<String> {
    let table = table().into_iter().filter(|info| kind(&info.variant));
    table.map(|info| info.name).collect()
}

#[test]
fn the_table_is_what_its_own_type_says_and_survives_the_way_back() {
    assert_eq!(table().to_value(), introspect::schema());
}

#[test]
fn it_names_the_commands_and_events_that_exist() {
    assert_eq!(names(|of| matches!(of, SchemaInfoVariant::Command(_))), Command::NAMES);
    assert_eq!(names(|of| matches!(of, SchemaInfoVariant::Event(_))), Event::NAMES);
}

#[test]
fn it_marks_for_oob_what_is_allowed_out_of_band() {
    for info in table() {
        if let SchemaInfoVariant::Command(command) = &info.variant {
            let spec = Command::spec(&info.name).expect("the command exists");
            assert_eq!(command.allow_oob.unwrap_or(false), spec.allow_oob, "{}", info.name);
        }
    }
    assert_eq!(Command::spec("set-block-fault-state").map(|spec| spec.allow_oob), Some(true));
    assert_eq!(Command::spec("nonsense"), None);
}

#[test]
fn every_type_is_there_once_and_is_used() {
    let mut used = BTreeSet::new();
    let mut defined = BTreeSet::new();
    for info in table() {
        let mut using: Vec<&str> = Vec::new();
        match &info.variant {
            SchemaInfoVariant::Command(of) => using.extend([&*of.arg_type, &*of.ret_type]),
            SchemaInfoVariant::Event(of) => using.push(&of.arg_type),
            SchemaInfoVariant::Array(of) => using.push(&of.element_type),
            SchemaInfoVariant::Alternate(of) => {
                using.extend(of.members.iter().map(|member| &*member.r#type));
            }
            SchemaInfoVariant::Object(of) => {
                using.extend(of.members.iter().map(|member| &*member.r#type));
                let variants = of.variants.iter().flatten();
                using.extend(variants.map(|variant| &*variant.r#type));
            }
            SchemaInfoVariant::Builtin(_) | SchemaInfoVariant::Enum(_) => {}
        }
        used.extend(using.into_iter().map(str::to_owned));
        let is_type =
            !matches!(info.variant, SchemaInfoVariant::Command(_) | SchemaInfoVariant::Event(_));
        if is_type {
            assert!(defined.insert(info.name.clone()), "'{}' is there twice", info.name);
        }
    }
    assert_eq!(used, defined);
}

#[test]
fn a_command_looks_as_it_does_in_qemu() {
    let table = introspect::schema();
    let entry = |name: &str| {
        let entries = table.as_array().expect("a list").iter();
        entries.clone().find(|entry| entry["name"] == name).cloned().expect("it is there")
    };
    let command = entry("block_resize");
    assert_eq!(command["meta-type"], "command");
    assert_eq!(command.get("allow-oob"), None);
    let arguments = entry(command["arg-type"].as_str().expect("a name"));
    assert_eq!(
        arguments["members"],
        json!([
            { "name": "device", "type": "str", "default": null },
            { "name": "node-name", "type": "str", "default": null },
            { "name": "size", "type": "int" },
        ])
    );
    assert_eq!(entry("int"), json!({ "name": "int", "meta-type": "builtin", "json-type": "int" }));
}
