// Opens a report in headless Chromium without a network and reports what is wrong with it, as JSON.
//
//     node check.mjs REPORT.html [FOLDER FOR SCREENSHOTS]
//
// needs the npm packages playwright-core and axe-core (NODE_PATH may name where they are) and
// Chromium (CHROMIUM, by default /usr/bin/chromium).
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import path from "node:path";

const places = [process.cwd(), ...(process.env.NODE_PATH ?? "").split(":").filter(Boolean)];
const load = (name) => {
  for (const place of places) {
    const require = createRequire(path.join(place.replace(/\/node_modules\/?$/, ""), "x.js"));
    try { return [require(name), require.resolve(name)]; } catch { /* the next place */ }
  }
  throw new Error(`the npm package ${name} is not installed`);
};
const [{ chromium }] = load("playwright-core");
const [, axePath] = load("axe-core");

const [file, shots] = process.argv.slice(2);
const problems = [];
const found = { sorted: 0, filtered: 0, links: 0, axe: 0 };
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

for (const width of [1280, 390]) {
  for (const colorScheme of ["light", "dark"]) {
    const where = `${width} px, ${colorScheme}`;
    const context = await browser.newContext({ viewport: { width, height: 844 }, colorScheme });
    const page = await context.newPage();
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) problems.push(`${where}: console: ${message.text()}`);
    });
    page.on("pageerror", (error) => problems.push(`${where}: script: ${error.message}`));
    await context.route("**/*", (route) => {
      const url = route.request().url();
      if (/^(file|data|blob):/.test(url)) return route.continue();
      problems.push(`${where}: asks the network for ${url}`);
      return route.abort();
    });
    await page.goto(pathToFileURL(path.resolve(file)).href);
    if (shots) {
      await page.screenshot({ path: path.join(shots, `${width}-${colorScheme}-first.png`) });
      await page.screenshot({ path: path.join(shots, `${width}-${colorScheme}.png`), fullPage: true });
    }
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    if (wide > 1) problems.push(`${where}: the page is ${wide} px wider than the window`);
    await page.evaluate(() => { for (const each of document.querySelectorAll("details")) each.open = true; });
    await page.addScriptTag({ path: axePath });
    const axe = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
    found.axe += 1;
    for (const each of axe.violations) {
      if (!["serious", "critical"].includes(each.impact)) continue;
      const node = each.nodes[0];
      problems.push(`${where}: axe, ${each.impact}: ${each.id}, ${each.nodes.length} times, as ${node.html.slice(0, 160)}`);
    }
    if (width === 1280 && colorScheme === "light") await behaviour(page, where);
    await context.close();
  }
}
await browser.close();
console.log(JSON.stringify({ ...found, problems, bytes: readFileSync(file).length }));

async function behaviour(page, where) {
  // Links inside the page lead somewhere.
  const links = await page.evaluate(() => [...document.querySelectorAll('a[href^="#"]')].map((a) => a.getAttribute("href")));
  found.links = links.length;
  const dead = await page.evaluate((all) => all.filter((href) => !document.getElementById(decodeURIComponent(href.slice(1)))), links);
  for (const href of new Set(dead)) problems.push(`${where}: ${href} leads nowhere`);
  // Every sortable table: a click on a heading orders its rows, a second turns them.
  for (const table of await page.locator("table:has(th button)").all()) {
    const rows = () => table.locator("tbody tr").evaluateAll((all) => all.map((tr) => tr.innerText));
    const first = await rows();
    let moved = false;
    for (const button of await table.locator("th button").all()) {
      if (!(await button.isVisible()) || (moved && found.sorted)) continue;
      for (let turn = 0; turn < 2; turn += 1) {
        await button.click();
        const now = await rows();
        if ([...now].sort().join("|") !== [...first].sort().join("|")) problems.push(`${where}: sorting loses rows`);
        moved ||= now.join("|") !== first.join("|");
      }
    }
    if (!moved && new Set(first).size > 1) problems.push(`${where}: sorting does nothing in ${await table.getAttribute("id")}`);
    found.sorted += 1;
  }
  for (const input of await page.locator("input[type=search]").all()) {
    if (!(await input.isVisible())) continue;
    const visible = () => page.locator("tbody tr:visible").count();
    const before = await visible();
    await input.fill("no row has this text");
    const none = await visible();
    await input.fill("");
    const after = await visible();
    if (!(none < before && after === before)) problems.push(`${where}: the filter does not filter`);
    found.filtered += 1;
  }
}
