/** The language server as a program of its own: what editors bundle that do not start `faultline lsp`. */
import { serve } from "./server.js";

serve(process.stdin, process.stdout);
