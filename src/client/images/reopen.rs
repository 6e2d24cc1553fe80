//! What a node is opened again with.
//!
//! Knows: what `query-named-block-nodes` tells of a node, and the options of `blockdev-reopen`
//! (`qapi/block.json`). Must not know: who is asked. Pure. Invariant: what the daemon tells of a node
//! stays unless an option says otherwise; what it does not tell (discards, engine, locks) is what
//! `--blk-file` has.

use serde_json::{Value, json};

use super::args::{ImageArgs, ReopenArgs};

/// The options of a node that was told like this; or why it has none that can be written here.
pub(super) fn options(node: &Value, args: &ReopenArgs) -> Result<Value, String> {
    let driver = node["drv"].as_str().unwrap_or_default();
    let mut options = json!({ "driver": driver, "node-name": node["node-name"] });
    put_image(&mut options, &args.image);
    let cache = &node["cache"];
    for (member, told) in [("read-only", &node["ro"]), ("discard", &json!("unmap"))] {
        if options[member].is_null() {
            options[member] = told.clone();
        }
    }
    for member in ["direct", "no-flush"] {
        if options["cache"][member].is_null() {
            options["cache"][member] = cache[member].clone();
        }
    }
    let mut file = json!({ "filename": node["file"] });
    put_access(&mut file, &args.image);
    match driver {
        "file" | "host_device" => {
            let members = file.as_object().into_iter().flatten();
            members.for_each(|(name, value)| options[name] = value.clone());
        }
        "raw" => {
            file["driver"] = json!(if args.host_device { "host_device" } else { "file" });
            options["file"] = file;
        }
        "memory" | "null-co" => options["size"] = node["image"]["virtual-size"].clone(),
        _ => {
            return Err(format!(
                "a node of driver '{driver}' is reopened by blockdev-reopen alone"
            ));
        }
    }
    Ok(options)
}

/// What may be said of every node.
pub(super) fn put_image(options: &mut Value, args: &ImageArgs) {
    if let Some(read_only) = args.read_only {
        options["read-only"] = json!(read_only);
    }
    if let Some(discard) = &args.discard {
        options["discard"] = json!(discard);
    }
    for (member, given) in [("direct", args.direct), ("no-flush", args.no_flush)] {
        if let Some(given) = given {
            options["cache"][member] = json!(given);
        }
    }
}

/// What may be said of a file.
pub(super) fn put_access(file: &mut Value, args: &ImageArgs) {
    for (member, given) in [("aio", &args.aio), ("locking", &args.locking)] {
        if let Some(given) = given {
            file[member] = json!(given);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(no_binary_name = true)]
    struct Line {
        #[command(flatten)]
        reopen: ReopenArgs,
    }

    fn options_of(node: &Value, line: &str) -> Result<Value, String> {
        options(node, &Line::try_parse_from(line.split_whitespace()).unwrap().reopen)
    }

    fn node(driver: &str) -> Value {
        json!({ "drv": driver, "node-name": "n", "file": "/a.img", "ro": true,
                "image": { "virtual-size": 512 },
                "cache": { "writeback": true, "direct": true, "no-flush": false } })
    }

    #[test]
    fn what_is_told_stays_and_what_is_said_changes() {
        let cache = json!({ "direct": true, "no-flush": false });
        let raw = json!({ "driver": "raw", "node-name": "n", "read-only": true, "discard": "unmap",
            "cache": cache, "file": { "filename": "/a.img", "driver": "file" } });
        assert_eq!(options_of(&node("raw"), "n"), Ok(raw.clone()));
        let mut changed = raw;
        changed["read-only"] = json!(false);
        changed["cache"] = json!({ "direct": false, "no-flush": true });
        changed["discard"] = json!("ignore");
        changed["file"] = json!({ "filename": "/a.img", "driver": "host_device",
            "aio": "threads", "locking": "off" });
        let line = "n --read-only=off --direct=off --no-flush --discard ignore --host-device \
                    --aio threads --locking off";
        assert_eq!(options_of(&node("raw"), line), Ok(changed));
        let file = json!({ "driver": "file", "node-name": "n", "read-only": true,
            "discard": "unmap", "cache": cache, "filename": "/a.img", "aio": "threads" });
        assert_eq!(options_of(&node("file"), "n --aio threads"), Ok(file));
        assert_eq!(options_of(&node("memory"), "n").unwrap()["size"], 512);
        assert!(options_of(&node("blkdebug"), "n").unwrap_err().contains("'blkdebug'"));
    }
}
