//! Shows what an input of a target says: `show TARGET FILE`.
fn main() {
    let mut arguments = std::env::args().skip(1);
    let (target, file) = (arguments.next().expect("a target"), arguments.next().expect("a file"));
    let input = std::fs::read(file).expect("the input");
    match &target[..] {
        "f01_chain" => println!("{:#x?}", blkfault_fuzz::chain::Case::decode(&input)),
        "f02_request" => println!("{:#x?}", blkfault_fuzz::request::Case::decode(&input)),
        "f03_messages" => println!("{:#x?}", blkfault_fuzz::messages::decode(&input)),
        "f04_session" => println!("{:#x?}", blkfault_fuzz::session::Case::decode(&input)),
        "f05_inflight" => println!("{:#x?}", blkfault_fuzz::inflight::Case::decode(&input)),
        "f08_rules" => println!("{:#x?}", blkfault_fuzz::rules::Case::decode(&input)),
        _ => println!("{}", String::from_utf8_lossy(&input)),
    }
}
