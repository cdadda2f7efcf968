/** The smallest scenarios that random campaigns on real kernels came down to, each a thing that the model had wrong or did not have once: recorded, reproduced wholly now. */
import { join } from "node:path";
import { reproduced } from "../conform/realkernels.js";

reproduced(join(import.meta.dirname, "mended"), "%s", 2);
