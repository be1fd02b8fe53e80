pub(super) fn status(
    _: &std::path::Path,
    _: bool,
    _: bool,
    _: Option<&std::path::Path>,
) -> crate::commands::CommandResult {
    todo!()
}
