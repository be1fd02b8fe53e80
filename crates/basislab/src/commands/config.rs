use super::CommandResult;
use crate::args::Config;
use crate::experiments;
use crate::terminal::say;

pub(crate) fn config(args: &Config) -> CommandResult {
    let Config::Show { which, toml } = args;
    let loaded = experiments::find(which)?.loaded;
    if *toml {
        say(loaded.experiment.to_toml())?;
        return Ok(None);
    }
    let width = loaded
        .origins
        .iter()
        .map(|(path, value, _)| path.len() + value.len() + 3)
        .filter(|w| *w < 72)
        .max()
        .unwrap_or(0);
    let line =
        |(path, value, origin): &(String, String, _)| format!("{:width$}  # {origin}\n", format!("{path} = {value}"));
    say(loaded.origins.iter().map(line).collect::<String>())?;
    Ok(None)
}
