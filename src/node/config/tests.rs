use super::*;

const REFERENCE: &str = include_str!("../../../config/reference.toml");

#[test]
fn the_built_in_configuration_is_three_local_nodes_with_defaults() {
    let config = Config::local();
    let addresses: Vec<&str> = config.cluster.nodes.iter().map(|node| node.address.as_str()).collect();
    assert_eq!(addresses, ["127.0.0.1:7101", "127.0.0.1:7102", "127.0.0.1:7103"]);
    let mut defaults = Config::default();
    defaults.cluster.nodes = config.cluster.nodes.clone();
    assert_eq!(config, defaults);
}

#[test]
fn the_reference_states_every_key_with_its_default() {
    let config = Config::parse(REFERENCE, "reference.toml").expect("the reference is a configuration");
    let mut defaults = Config::default();
    defaults.cluster.nodes = config.cluster.nodes.clone();
    assert_eq!(config, defaults);

    let written: toml::Table = toml::from_str(REFERENCE).expect("TOML");
    let schema = text::schema();
    for (section, value) in &schema {
        let table = written.get(section).and_then(|value| value.as_table());
        let table = table.unwrap_or_else(|| panic!("[{section}] is not in the reference"));
        for key in value.as_table().expect("sections are tables").keys() {
            assert!(table.contains_key(key), "{section}.{key} is not in the reference");
        }
    }
    let nodes = written["cluster"]["nodes"].as_array().expect("an array");
    for key in schema["cluster"]["nodes"][0].as_table().expect("a table").keys() {
        assert!(
            nodes.iter().any(|node| node.get(key).is_some()),
            "cluster.nodes[].{key} is not in the reference"
        );
    }
}

#[test]
fn a_node_number_is_filled_into_the_data_directory() {
    let mut config = Config::local();
    config.cluster.nodes[1].data_dir = Some("/elsewhere".into());
    assert_eq!(config.data_dir(NodeId(1)), PathBuf::from("quorate-data/node-1"));
    assert_eq!(config.data_dir(NodeId(2)), PathBuf::from("/elsewhere"));
    config.set_data_root(Path::new("/root"));
    assert_eq!(config.data_dir(NodeId(2)), PathBuf::from("/root/node-2"));
}

#[test]
fn the_example_files_are_configurations() {
    for (name, text) in [
        ("single.toml", include_str!("../../../config/single.toml")),
        ("three-machines.toml", include_str!("../../../config/cluster/three-machines.toml")),
    ] {
        Config::parse(text, name).unwrap_or_else(|problems| panic!("{problems}"));
    }
}
