//! `basislab backends`: what this build and this machine offer.

use super::CommandResult;
use crate::backend::{ALL, Backend, DeviceInfo, OpenDevice};
use crate::resources::size;
use crate::terminal::{say, say_json};
use basislab_config::Dtype;
use basislab_optim::precision;
use serde_json::{Value, json};

/// Size of the product by which precision is told: large enough for the kernels that round.
const PRODUCT: usize = 256;

pub(crate) fn backends(as_json: bool) -> CommandResult {
    let (mut rows, mut all, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for backend in ALL {
        let (devices, why) = match backend.places(usize::MAX) {
            Ok(places) => (places.iter().map(described).collect::<Vec<_>>(), None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        rows.extend(devices.iter().map(|(info, products)| row(info, products)));
        if let Some(why) = &why {
            missing.push(format!("{}: {}", backend.name(), why.split_once(": ").map_or(&**why, |(_, rest)| rest)));
        }
        let devices: Vec<Value> = devices.iter().map(|(info, products)| with_products(info, products)).collect();
        all.push(json!({ "backend": backend.name(), "built": backend.is_built(), "devices": devices, "missing": why }));
    }
    let meaning = |backend: Backend| backend.resolve().name();
    if as_json {
        say_json(&json!({ "backends": all, "cpu": meaning(Backend::Cpu), "auto": meaning(Backend::Auto) }))?;
        return Ok(None);
    }
    let mut table = comfy_table::Table::new();
    let header = ["--backend", "--device", "name", "kind", "driver", "memory", "dtypes", "products"];
    table.load_style(comfy_table::presets::NOTHING).set_header(header).add_rows(rows);
    let mut text = format!("{table}\n\n");
    for line in missing {
        text += &format!("{line}\n");
    }
    let (cpu, auto) = (meaning(Backend::Cpu), meaning(Backend::Auto));
    say(text + &format!("\n`--backend cpu`, the default, means {cpu} here; `--backend auto` means {auto}.\n"))?;
    Ok(None)
}

/// What is known of a device, and what it makes of a product in f32, or why it fails at one.
fn described(place: &OpenDevice) -> (DeviceInfo, String) {
    let products = place.work(|| Ok(precision(&place.device, basislab_model::dtype(Dtype::F32), [PRODUCT; 3]).name));
    (place.info.clone(), products.map_or_else(|error| error.to_string(), str::to_owned))
}

fn row(info: &DeviceInfo, products: &str) -> [String; 8] {
    let DeviceInfo { backend, index, name, kind, driver, memory, dtypes } = info.clone();
    let memory = memory.map_or_else(|| "not told".to_owned(), |bytes| size(bytes as f64));
    let dtypes: Vec<&str> = dtypes.into_iter().map(Dtype::name).collect();
    let (index, dtypes) = (index.to_string(), dtypes.join(" "));
    [backend.to_owned(), index, name, kind.to_owned(), driver, memory, dtypes, products.to_owned()]
}

fn with_products(info: &DeviceInfo, products: &str) -> Value {
    let mut value = json!(info);
    value["products"] = products.into();
    value
}
