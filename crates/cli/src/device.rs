//! Where to compute.

use candle_core::Device;

use crate::exit::Error;

/// The device of a name: `cpu`, `cuda`, `cuda:1`, `metal`.
pub(crate) fn of(name: &str) -> Result<Device, Error> {
    let (kind, number) = match name.split_once(':') {
        None => (name, 0),
        Some((kind, number)) => {
            let number = number.parse().map_err(|_| {
                Error::Usage(format!(
                    "--device {name}: `{number}` is no number of a device"
                ))
            })?;
            (kind, number)
        }
    };
    let (device, feature) = match kind {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => (Device::new_cuda(number), "cuda"),
        "metal" => (Device::new_metal(number), "metal"),
        _ => {
            return Err(Error::Usage(format!(
                "--device {name}: there is no such device; cpu, cuda, cuda:N and metal are possible"
            )));
        }
    };
    device.map_err(|error| {
        let compiled = match feature {
            "cuda" => candle_core::utils::cuda_is_available(),
            _ => candle_core::utils::metal_is_available(),
        };
        Error::Usage(if compiled {
            // candle appends a backtrace; the first line says it.
            format!("--device {name}: {}", error.to_string().lines().next().unwrap_or("it cannot be used"))
        } else {
            format!("--device {name}: this program was built without it; build with `--features {feature}`")
        })
    })
}
