/** Starts the page with the data that lies in it. */
import { strFromU8, unzlibSync } from "fflate";
import { h, render } from "preact";
import type { ReportData } from "../data.js";
import { App } from "./app.js";
import { lightInPrint } from "./theme.js";

const bytes = Uint8Array.from(atob(document.getElementById("data")!.textContent), (c) => c.charCodeAt(0));
const report = JSON.parse(strFromU8(unzlibSync(bytes))) as ReportData;
lightInPrint();
const root = document.getElementById("page")!;
root.replaceChildren();
render(h(App, { report }), root);
root.dataset["ready"] = "";
