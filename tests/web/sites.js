/** Serves the pages that reference.py has written, under their own content security policy, and stands in for a CDN. */

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";

import { FOLDER } from "./support.js";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css",
  ".json": "application/json", ".svg": "image/svg+xml", ".wasm": "application/wasm", ".png": "image/png" };
const { address: CDN } = JSON.parse(await readFile("../../web/onnxruntime-web.json"));

const servers = [];

/** Sends what the site "slow" holds back of its model. */
export let sendTheRest;
const theRest = new Promise((resolve) => (sendTheRest = resolve));

/** @returns {Promise<string>} The address under which each site has its folder. */
export async function serveSites() {
  const other = await serve(elsewhere);
  return serve((path) => siteFile(path, other));
}

export function stopServing() {
  servers.forEach((server) => server.close());
}

/** Serves what `read` gives for a path, until the tests end. */
async function serve(read) {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    try {
      const { body, headers, pause } = await read(pathname);
      const type = TYPES[extname(pathname)] ?? "application/octet-stream";
      response.writeHead(200, { "content-type": type, "content-length": body.length, ...headers });
      if (pause) response.write(body.subarray(0, body.length / 2));
      await pause;
      response.end(pause ? body.subarray(body.length / 2) : body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  servers.push(server);
  return `http://127.0.0.1:${server.address().port}`;
}

/** In place of the CDN: the files of the package, and under /changed/ others. */
async function elsewhere(path) {
  const file = await readFile(`node_modules/onnxruntime-web/dist/${path.split("/").at(-1)}`);
  const body = path.startsWith("/changed/") ? Buffer.concat([file, Buffer.from("\n//")]) : file;
  return { body, headers: { "access-control-allow-origin": "*" } };
}

/**
 * A site: "own", "slow", where half of the model has to wait, or "cdn" or "changed" with onnxruntime-web from
 * elsewhere. With the page's own policy as a header, it holds for the worker too, which a policy in the document does
 * not.
 */
async function siteFile(path, other) {
  const site = path.split("/")[1];
  const isOwn = ["own", "slow"].includes(site);
  const [folder, address] = isOwn ? ["own", CDN] : ["cdn", `${other}/${site}/`];
  const read = async (name) => {
    const body = await readFile(`${FOLDER}/${name}`);
    return /\.(html|json)$/.test(name) ? Buffer.from(body.toString().replaceAll(CDN, address)) : body;
  };
  if (!["own", "slow", "cdn", "changed"].includes(site)) return { body: await read(path) };
  const [, policy] = /Policy" content="([^"]*)"/.exec((await read(`${folder}/index.html`)).toString());
  const pause = site === "slow" && path.endsWith(".onnx") && theRest;
  return { body: await read(path.replace(site, folder)), headers: { "content-security-policy": policy }, pause };
}
