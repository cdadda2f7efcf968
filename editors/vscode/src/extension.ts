/** The extension: starts the language server, its own or the one that the settings name, while a guest script is open. */
import { workspace, type ExtensionContext } from "vscode";
import { LanguageClient, TransportKind, type ServerOptions } from "vscode-languageclient/node";

let client: LanguageClient | undefined;

export function activate(context: ExtensionContext): Promise<void> {
  const [command, ...args] = workspace.getConfiguration("faultline").get<string[]>("server.command", []);
  const server: ServerOptions =
    command === undefined
      ? { module: context.asAbsolutePath("out/server.mjs"), transport: TransportKind.stdio }
      : { command, args, transport: TransportKind.stdio };
  client = new LanguageClient("faultline", "Faultline", server, { documentSelector: [{ language: "faultline-guest" }] });
  return client.start();
}

export function deactivate(): Promise<void> | undefined {
  return client?.stop();
}
