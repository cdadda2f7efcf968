/**
 * The language server of guest scripts: completion, hover, diagnostics and the fix of a misspelt name, spoken as the
 * Language Server Protocol over a pair of streams. Reads no file: an editor sends what it shows.
 */
import {
  CodeActionKind,
  CompletionItemKind,
  createConnection,
  DiagnosticSeverity,
  InsertTextFormat,
  MarkupKind,
  TextDocuments,
  TextDocumentSyncKind,
  type CodeAction,
  type CompletionItem,
  type Diagnostic as Shown,
} from "vscode-languageserver/node";
import { TextDocument } from "vscode-languageserver-textdocument";
import { completeAt } from "./complete.js";
import { diagnose, meant } from "./diagnose.js";
import { hoverAt } from "./hover.js";
import type { Word, WordKind } from "./word.js";

const KINDS: Readonly<Record<WordKind, CompletionItemKind>> = {
  statement: CompletionItemKind.Keyword,
  setting: CompletionItemKind.Property,
  condition: CompletionItemKind.Keyword,
  mnemonic: CompletionItemKind.Operator,
  register: CompletionItemKind.Variable,
  operation: CompletionItemKind.EnumMember,
  call: CompletionItemKind.Function,
  parameter: CompletionItemKind.Field,
  constant: CompletionItemKind.Constant,
  value: CompletionItemKind.Value,
  label: CompletionItemKind.Reference,
  decision: CompletionItemKind.Enum,
  choice: CompletionItemKind.EnumMember,
  era: CompletionItemKind.Module,
  cpu: CompletionItemKind.Class,
  device: CompletionItemKind.Class,
  cost: CompletionItemKind.Unit,
  event: CompletionItemKind.Event,
  field: CompletionItemKind.Field,
  variant: CompletionItemKind.Module,
};

/** Serves until the client says exit or its stream ends. */
export function serve(input: NodeJS.ReadableStream, output: NodeJS.WritableStream): void {
  const connection = createConnection(input, output);
  const documents = new TextDocuments(TextDocument);
  let snippets = false;

  connection.onInitialize(({ capabilities }) => {
    snippets = capabilities.textDocument?.completion?.completionItem?.snippetSupport === true;
    return {
      serverInfo: { name: "faultline" },
      capabilities: {
        textDocumentSync: TextDocumentSyncKind.Incremental,
        completionProvider: { triggerCharacters: [" ", "(", "=", ",", "["] },
        hoverProvider: true,
        codeActionProvider: { codeActionKinds: [CodeActionKind.QuickFix] },
      },
    };
  });

  documents.onDidChangeContent(({ document }) => {
    void connection.sendDiagnostics({ uri: document.uri, version: document.version, diagnostics: shown(document) });
  });
  documents.onDidClose(({ document }) => {
    void connection.sendDiagnostics({ uri: document.uri, diagnostics: [] });
  });

  connection.onCompletion(({ textDocument, position }) => {
    const document = documents.get(textDocument.uri);
    if (document === undefined) return [];
    const at = document.offsetAt(position);
    const { words, from } = completeAt(document.getText(), at);
    const range = { start: document.positionAt(from), end: position };
    return words.map((w, n) => item(w, n, range, snippets));
  });

  connection.onHover(({ textDocument, position }) => {
    const document = documents.get(textDocument.uri);
    const found = document === undefined ? undefined : hoverAt(document.getText(), document.offsetAt(position));
    if (document === undefined || found === undefined) return null;
    return {
      contents: { kind: MarkupKind.Markdown, value: found.word.doc },
      range: { start: document.positionAt(found.from), end: document.positionAt(found.to) },
    };
  });

  connection.onCodeAction(({ textDocument, context }): CodeAction[] =>
    context.diagnostics.flatMap((d) => {
      const name: unknown = d.data;
      if (typeof name !== "string") return [];
      const changes = { [textDocument.uri]: [{ range: d.range, newText: name }] };
      return [{ title: `Change to "${name}"`, kind: CodeActionKind.QuickFix, diagnostics: [d], edit: { changes }, isPreferred: true }];
    }),
  );

  documents.listen(connection);
  connection.listen();
}

function item(w: Word, n: number, range: { start: CompletionItemRange; end: CompletionItemRange }, snippets: boolean): CompletionItem {
  const newText = snippets ? (w.insert ?? w.name) : w.name;
  return {
    label: w.name,
    kind: KINDS[w.kind],
    detail: w.detail,
    documentation: { kind: MarkupKind.Markdown, value: w.doc },
    // In our order: what fits best comes first.
    sortText: String(n).padStart(4, "0"),
    insertTextFormat: snippets && w.insert !== undefined ? InsertTextFormat.Snippet : InsertTextFormat.PlainText,
    textEdit: { range, newText },
  };
}
type CompletionItemRange = { line: number; character: number };

function shown(document: TextDocument): Shown[] {
  return diagnose(document.uri, document.getText()).map((d) => {
    const start = { line: d.line - 1, character: d.column - 1 };
    const name = meant(d);
    return {
      range: { start, end: { line: start.line, character: start.character + d.length } },
      severity: DiagnosticSeverity.Error,
      source: "faultline",
      message: d.hint === "" ? d.message : `${d.message}\n${d.hint}`,
      ...(name === undefined ? {} : { data: name }),
    };
  });
}
