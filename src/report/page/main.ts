/** Starts the page with the data that lies in it. */
import { h, render } from "preact";
import type { ReportData } from "../data.js";
import { App } from "./app.js";
import { lightInPrint } from "./theme.js";

const report = JSON.parse(document.getElementById("data")!.textContent) as ReportData;
lightInPrint();
const root = document.getElementById("page")!;
root.replaceChildren();
render(h(App, { report }), root);
root.dataset["ready"] = "";
