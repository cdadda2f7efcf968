// Builds the VS Code extension in editors/vscode: the grammar from the tables, client and server bundled, all packed as a .vsix,
// which is an archive in the Open Packaging Conventions with a manifest of Visual Studio's. Needs no network.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { zipSync } from "fflate";
import { loadSources } from "./load.mjs";
import { writeWhole } from "./writewhole.mjs";

const FOLDER = "editors/vscode";
const require = 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);';

const common = { bundle: true, minifySyntax: true, platform: "node", target: "node20", legalComments: "inline", logLevel: "warning" };

/** The files of the extension, by their names in it. */
async function files() {
  const { grammar } = await loadSources("grammar", 'export { grammar } from "./editor/grammar.js";');
  const client = await build({
    ...common,
    entryPoints: [join(FOLDER, "src/extension.ts")],
    format: "cjs",
    external: ["vscode"],
    write: false,
  });
  const server = await build({ ...common, entryPoints: ["src/editor/stdio.ts"], format: "esm", banner: { js: require }, write: false });
  const manifest = JSON.parse(readFileSync(join(FOLDER, "package.json"), "utf8"));
  manifest.version = JSON.parse(readFileSync("package.json", "utf8")).version;
  const text = (name) => readFileSync(join(FOLDER, name));
  return {
    "package.json": Buffer.from(`${JSON.stringify(manifest, undefined, 2)}\n`),
    "README.md": text("README.md"),
    "LICENSE.txt": readFileSync("LICENSE"),
    "language-configuration.json": text("language-configuration.json"),
    "syntaxes/faultline-guest.tmLanguage.json": Buffer.from(`${JSON.stringify(grammar(), undefined, 2)}\n`),
    "out/extension.js": client.outputFiles[0].contents,
    "out/server.mjs": server.outputFiles[0].contents,
  };
}

const xml = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

function vsixManifest(m) {
  const asset = (type, path) => `    <Asset Type="${type}" Path="extension/${path}" Addressable="true" />`;
  return `<?xml version="1.0" encoding="utf-8"?>
<PackageManifest Version="2.0.0" xmlns="http://schemas.microsoft.com/developer/vsx-schema/2011" xmlns:d="http://schemas.microsoft.com/developer/vsx-schema-design/2011">
  <Metadata>
    <Identity Language="en-US" Id="${xml(m.name)}" Version="${xml(m.version)}" Publisher="${xml(m.publisher)}" />
    <DisplayName>${xml(m.displayName)}</DisplayName>
    <Description xml:space="preserve">${xml(m.description)}</Description>
    <Tags>${xml([...m.keywords, ...m.contributes.languages.map((l) => `__ext_${l.extensions[0].slice(1)}`)].join(","))}</Tags>
    <Categories>${xml(m.categories.join(","))}</Categories>
    <GalleryFlags>Public</GalleryFlags>
    <License>extension/LICENSE.txt</License>
    <Properties>
      <Property Id="Microsoft.VisualStudio.Code.Engine" Value="${xml(m.engines.vscode)}" />
      <Property Id="Microsoft.VisualStudio.Code.ExtensionDependencies" Value="" />
      <Property Id="Microsoft.VisualStudio.Code.ExtensionPack" Value="" />
      <Property Id="Microsoft.VisualStudio.Code.ExtensionKind" Value="workspace" />
    </Properties>
  </Metadata>
  <Installation>
    <InstallationTarget Id="Microsoft.VisualStudio.Code" />
  </Installation>
  <Dependencies />
  <Assets>
${asset("Microsoft.VisualStudio.Code.Manifest", "package.json")}
${asset("Microsoft.VisualStudio.Services.Content.Details", "README.md")}
${asset("Microsoft.VisualStudio.Services.Content.License", "LICENSE.txt")}
  </Assets>
</PackageManifest>
`;
}

const TYPES = {
  json: "application/json",
  js: "application/javascript",
  mjs: "application/javascript",
  md: "text/markdown",
  txt: "text/plain",
};
function contentTypes() {
  const rows = Object.entries({ ...TYPES, vsixmanifest: "text/xml" }).map(
    ([extension, type]) => `<Default Extension=".${extension}" ContentType="${type}" />`,
  );
  return `<?xml version="1.0" encoding="utf-8"?>
<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">${rows.join("")}</Types>
`;
}

/** Writes the .vsix: the same bytes for the same sources. @param {string} folder @returns its path */
export async function buildExtension(folder) {
  const all = await files();
  const manifest = JSON.parse(all["package.json"].toString());
  const entries = {
    "extension.vsixmanifest": Buffer.from(vsixManifest(manifest)),
    "[Content_Types].xml": Buffer.from(contentTypes()),
    ...Object.fromEntries(Object.entries(all).map(([name, contents]) => [`extension/${name}`, contents])),
  };
  const path = join(folder, `${manifest.name}-${manifest.version}.vsix`);
  writeWhole(path, zipSync(entries, { level: 9, mtime: new Date(2020, 0, 1) }));
  return path;
}

if (process.argv[1]?.endsWith("vscode.mjs")) {
  // Also into the folder, for an editor that runs the extension from it, and for tools that want the grammar alone.
  const all = await files();
  for (const [name, contents] of Object.entries(all)) if (/^(out|syntaxes)\//.test(name)) writeWhole(join(FOLDER, name), contents);
  console.log(await buildExtension("dist"));
}
