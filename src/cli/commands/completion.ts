/** The words of `faultline completion`: a completion script for a shell. */
import { Argument, Option, type Command } from "commander";
import { json, wantsJson, type Done } from "../options.js";

/** @param all the tree of all commands, for their words */
export function addCompletion(root: Command, done: Done, all: () => Command): void {
  root
    .command("completion")
    .description("a completion script for bash, zsh or fish: commands, options, eras, decisions, scenarios")
    .addArgument(new Argument("<shell>", "the shell").choices(["bash", "zsh", "fish"]))
    .addOption(new Option("--format <format>", "the script, or the words that it offers").choices(["text", "json"]).default("text"))
    .addOption(json())
    .addHelpText(
      "after",
      `
Examples:
  source <(faultline completion bash)                                      this bash; put it into ~/.bashrc for all
  faultline completion zsh > "\${fpath[1]}/_faultline"                      zsh, from its next start on
  faultline completion fish > ~/.config/fish/completions/faultline.fish    fish`,
    )
    .action(async (shell: string, o: { format: string; json?: boolean }) => {
      const { completionCommand } = await import("../completion.js");
      done(await completionCommand(all(), shell, wantsJson(o)));
    });
}
