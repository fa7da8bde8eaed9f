//! What every page must be fit for: keyboards, screen readers, phones, dark rooms.

use serde_json::Value;

use crate::browser::Browser;

/// Looks at the page that is open in every look: it leaves pictures, is not too wide, and its text can be read.
#[track_caller]
pub fn each_look(browser: &Browser, name: &str) {
    for (look, width, dark) in
        [("light", 1280, false), ("dark", 1280, true), ("phone", 390, false), ("phone-dark", 390, true)]
    {
        browser.look(width, dark);
        browser.screenshot(&format!("{name}-{look}"));
        let too_wide = browser.eval("return document.documentElement.scrollWidth - innerWidth");
        assert!(too_wide.as_i64().is_some_and(|n| n <= 0), "{name} {look} is {too_wide} px too wide");
        check_contrast(browser, &format!("{name} {look}"));
    }
}

/// Looks at its landmarks, tables, names.
#[track_caller]
pub fn structure(browser: &Browser, name: &str) {
    let structure = browser.eval(
        "const all = s => [...document.querySelectorAll(s)];
         return { main: all('main').length, nav: all('nav').length > 0 && all('nav').every(e => e.ariaLabel), h1: all('h1').length, lang: document.documentElement.lang,
           captions: all('table').every(t => t.caption), scopes: all('th').every(t => t.scope),
           names: all('progress, svg[role=img], pre[tabindex]').every(e => e.ariaLabel), labels: all('input:not([type=hidden]), select').every(e => e.closest('label')), live: all('[role=status]').length > 0,
           first: all('a[href]')[0].textContent,
           hidden: all('.skip, .unseen').every(e => e.getBoundingClientRect().right < 0 || e.offsetWidth <= 1), ids: new Set(all('[id]').map(e => e.id)).size == all('[id]').length }",
    );
    let expected = serde_json::json!({"main": 1, "nav": true, "h1": 1, "lang": "en", "captions": true, "scopes": true, "names": true, "labels": true,
        "live": true, "hidden": true, "first": "Skip to the content", "ids": true});
    assert_eq!(structure, expected, "{name}");
}

/// WCAG 2.1, 1.4.3: text has a contrast of at least 4.5 to what is behind it.
#[track_caller]
fn check_contrast(browser: &Browser, what: &str) {
    let poor = browser.eval(
        "const rgb = c => { const m = c.match(/[\\d.]+/g).map(Number); return { c: m.slice(0, 3), a: m[3] ?? 1 }; };
         const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
           return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
         const behind = e => { for (; e; e = e.parentElement) { const b = rgb(getComputedStyle(e).backgroundColor); if (b.a == 1) return b.c; }
           return [255, 255, 255]; };
         return [...document.querySelectorAll('body *')]
           .filter(e => [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()) && e.offsetParent && !e.closest('svg'))
           .map(e => { const a = light(rgb(getComputedStyle(e).color).c), b = light(behind(e));
             return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.slice(0, 40)]; })
           .filter(([ratio]) => ratio < 4.5)",
    );
    assert_eq!(poor, Value::Array(Vec::new()), "{what}");
}
