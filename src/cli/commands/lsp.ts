/** The words of `faultline lsp`: a language server for guest scripts. */
import type { Command } from "commander";
import { OK } from "../status.js";
import type { Done } from "../options.js";

export function addLsp(root: Command, done: Done): void {
  root
    .command("lsp")
    .description("a language server for guest scripts on standard input and output, started by an editor")
    .option("--stdio", "as editors say it; there is no other way", true)
    .addHelpText(
      "after",
      `
Completion of mnemonics, statements, decisions with their values, eras, CPUs, devices, events and fields; hover with what each does
and its source; the diagnostics of the command. How to start it from VS Code, Vim, Emacs and others: docs/editors.md.

Examples:
  faultline lsp --stdio     in the configuration of an editor: it speaks the Language Server Protocol`,
    )
    .action(async () => {
      const { serve } = await import("../../editor/server.js");
      done(OK);
      serve(process.stdin, process.stdout);
      // The editor ends it.
      await new Promise(() => undefined);
    });
}
