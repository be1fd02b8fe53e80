//! `basislab backends`: what this build and this machine offer.

use super::CommandResult;
use crate::backend::{ALL, Backend, DeviceInfo, OpenDevice};
use crate::build::class_of_cpu;
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
        missing.extend(devices.iter().filter_map(|(_, products)| products.clone().err()));
        let devices: Vec<Value> = devices.iter().map(|(info, products)| with_products(info, products)).collect();
        all.push(json!({ "backend": backend.name(), "built": backend.is_built(), "devices": devices, "missing": why }));
    }
    let meaning = |backend: Backend| backend.resolve().name();
    if as_json {
        let (cpu, auto) = (meaning(Backend::Cpu), meaning(Backend::Auto));
        say_json(&json!({ "backends": all, "cpu": cpu, "auto": auto, "cpu_class": class_of_cpu() }))?;
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
    text += &format!("\n`--backend cpu`, the default, means {cpu} here; `--backend auto` means {auto}.\n");
    say(text + &format!("CPU class: {}. On CPUs of one class, flex and ndarray repeat their bits.\n", class_of_cpu()))?;
    Ok(None)
}

/// The precision of a device's products in f32, or why it fails at one.
type Products = Result<&'static str, String>;

/// What is known of a device, and its products.
fn described(place: &OpenDevice) -> (DeviceInfo, Products) {
    let products = place.work(|| Ok(precision(&place.device, basislab_model::dtype(Dtype::F32), [PRODUCT; 3]).name));
    (place.info.clone(), products.map_err(|error| error.to_string()))
}

fn row(info: &DeviceInfo, products: &Products) -> [String; 8] {
    let DeviceInfo { backend, index, name, kind, driver, memory, dtypes } = info.clone();
    let products = products.clone().unwrap_or("failed").to_owned();
    let memory = memory.map_or_else(|| "unknown".to_owned(), |bytes| size(bytes as f64));
    let dtypes: Vec<&str> = dtypes.into_iter().map(Dtype::name).collect();
    let (index, dtypes) = (index.to_string(), dtypes.join(" "));
    [backend.to_owned(), index, name, kind.to_owned(), driver, memory, dtypes, products]
}

fn with_products(info: &DeviceInfo, products: &Products) -> Value {
    let mut value = json!(info);
    value["products"] = products.as_ref().map_or_else(|why| why.as_str(), |name| *name).into();
    value
}
