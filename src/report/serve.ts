/** Serves one page on loopback until it is interrupted: for browsers that cannot open this machine's files. */
import { createServer } from "node:http";

export interface Served {
  readonly url: string;
  readonly ended: Promise<void>;
  close(): void;
}

/** @param port 0 for any free one */
export function serve(html: string, port = 0): Promise<Served> {
  const bytes = Buffer.from(html);
  return new Promise((resolve, reject) => {
    const server = createServer((request, response) => {
      const known = request.url === "/" && (request.method === "GET" || request.method === "HEAD");
      // Another site's page must not read this one through a name that points here.
      const host = (request.headers.host ?? "").replace(/:\d+$/, "");
      if (!known || (host !== "127.0.0.1" && host !== "localhost")) {
        response.writeHead(known ? 403 : 404, { "content-type": "text/plain" }).end(known ? "forbidden\n" : "not found\n");
        return;
      }
      response.writeHead(200, {
        "content-type": "text/html; charset=utf-8",
        "content-length": bytes.length,
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
      });
      response.end(request.method === "HEAD" ? undefined : bytes);
    });
    server.on("error", reject);
    server.listen(port, "127.0.0.1", () => {
      const address = server.address();
      const at = typeof address === "object" && address !== null ? address.port : port;
      resolve({
        url: `http://127.0.0.1:${at}/`,
        ended: new Promise((end) => server.on("close", () => end())),
        close: () => {
          server.close();
          server.closeAllConnections();
        },
      });
    });
  });
}
