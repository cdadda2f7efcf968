// Runs a bundled script with the command of a folder, and keeps beside it what V8 compiled: node tools/codecache.mjs FOLDER
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { writeWhole } from "./writewhole.mjs";

const folder = resolve(process.argv[2]);
const executable = join(folder, "faultline.cjs");
process.argv = [process.execPath, executable, "run", "2019-munmap-remap"];
process.stdout.write = () => true;
const { script } = createRequire(import.meta.url)(executable);
process.on("exit", () => writeWhole(join(folder, "command.cache"), script.createCachedData()));
