/** A language client: the built command with a pipe at each end, as an editor starts it. */
import { spawn } from "node:child_process";
import {
  createProtocolConnection,
  DidOpenTextDocumentNotification,
  ExitNotification,
  InitializedNotification,
  InitializeRequest,
  PublishDiagnosticsNotification,
  ShutdownRequest,
  StreamMessageReader,
  StreamMessageWriter,
  type Diagnostic,
  type InitializeResult,
  type ProtocolConnection,
} from "vscode-languageserver-protocol/node";
import { CLI } from "../cli/command.js";

export interface Client {
  readonly connection: ProtocolConnection;
  readonly initialized: InitializeResult;
  /** Opens a document and waits for what the server says of it. */
  open(uri: string, text: string): Promise<Diagnostic[]>;
  /** Closes the pipe, as the end of an editor does. @returns the server's exit status */
  hangUp(): Promise<number | null>;
  /** Ends the server as an editor does. @returns its exit status */
  end(): Promise<number | null>;
}

export async function client(command: readonly string[] = [process.execPath, CLI, "lsp", "--stdio"]): Promise<Client> {
  const p = spawn(command[0]!, command.slice(1), { stdio: ["pipe", "pipe", "inherit"] });
  const closed = new Promise<number | null>((resolve) => p.on("close", resolve));
  const connection = createProtocolConnection(new StreamMessageReader(p.stdout), new StreamMessageWriter(p.stdin));
  const waiting = new Map<string, (d: Diagnostic[]) => void>();
  connection.onNotification(PublishDiagnosticsNotification.type, ({ uri, diagnostics }) => waiting.get(uri)?.(diagnostics));
  connection.listen();
  const initialized = await connection.sendRequest(InitializeRequest.type, {
    processId: process.pid,
    rootUri: null,
    capabilities: { textDocument: { completion: { completionItem: { snippetSupport: true } } } },
  });
  await connection.sendNotification(InitializedNotification.type, {});
  return {
    connection,
    initialized,
    open: (uri, text) =>
      new Promise((resolve) => {
        waiting.set(uri, resolve);
        void connection.sendNotification(DidOpenTextDocumentNotification.type, {
          textDocument: { uri, languageId: "faultline-guest", version: 1, text },
        });
      }),
    hangUp: () => {
      p.stdin.end();
      return closed;
    },
    end: async () => {
      await connection.sendRequest(ShutdownRequest.type);
      await connection.sendNotification(ExitNotification.type);
      const status = await closed;
      connection.dispose();
      return status;
    },
  };
}
