"""What a browser may do on the service's pages: nothing from outside, no scripts but their own, in no frame."""

from collections.abc import Mapping


def headers(*, script: str = "", style: str = "", more: str = "") -> Mapping[str, str]:
    """Return the headers of a page.

    `script` and `style` are sources that the page needs besides its own files, such as a hash; `more` holds further
    directives of the content security policy.
    """
    directives = (
        "default-src 'none'",
        "connect-src 'self'",
        "img-src 'self' data:",
        f"style-src 'self' {style}",
        f"script-src 'self' {script}",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        more,
    )
    return {
        "Content-Security-Policy": "; ".join(directive.strip() for directive in directives if directive),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
