"""The page, by Gradio. It asks no other server for anything."""
from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from PIL import Image

from ..errors import InputError

if TYPE_CHECKING:
    from gradio import Blocks

KEPT_SECONDS = 3600    # Gradio keeps images in files meanwhile
FONTS = ('system-ui', 'sans-serif'), ('ui-monospace', 'monospace')    # of the system: the themes' own come from the web
WHOLE_GALLERY = '.grid-wrap {max-height: none !important; overflow: visible !important}'    # instead of a scroll bar
POLICY = b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'"


def make_page(compare: Callable[[Image.Image, int], list[tuple[Image.Image, str]]], title: str,
              heights: tuple[int, int]) -> Blocks:
    """The page: an image, its resolution, and a gallery of what ``compare`` returns.

    Args:
        compare: Function from an image and a height in pixels to pictures with captions; one call at a time.
        title: Of the page.
        heights: The least and the largest height. The page starts at a quarter of the largest.

    Raises:
        InputError: If Gradio is not installed.
    """
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'    # read at the import and at every start
    try:
        import gradio
    except ImportError as error:
        raise InputError("the page needs Gradio: pip install 'mspe_mm[app]', or pip install gradio") from error

    def pictures(image: Image.Image | None, height: int) -> list[tuple[Image.Image, str]]:
        return [] if image is None else compare(image, int(height))

    with gradio.Blocks(title=title, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as page:
        gradio.Markdown(f'### {title}')
        with gradio.Row():
            image = gradio.Image(type='pil', label='Image', sources=['upload', 'clipboard'], height=260)
            height = gradio.Slider(*heights, value=max(heights[0], heights[1] // 4), step=1,
                                   label='Resolution: height in pixels')
        gallery = gradio.Gallery(show_label=False, columns=3, object_fit='contain', format='png', interactive=False,
                                 buttons=['download', 'fullscreen'])
        gradio.on([image.change, height.release], pictures, [image, height], gallery, api_name='compare',
                  trigger_mode='always_last')
    return page


def serve(page: Blocks, host: str, port: int | None) -> None:
    """Serve a page of :func:`make_page` until the process is interrupted. The address is printed.

    Args:
        page: The page.
        host: The network address that it listens at.
        port: Its port; None for the first free one from 7860.

    Raises:
        InputError: If the port is taken, or the address is none of this machine.
    """
    import gradio
    from starlette.middleware import Middleware

    theme = gradio.themes.Default(font=FONTS[0], font_mono=FONTS[1])
    try:
        _, address, _ = page.launch(
            server_name=host, server_port=port, share=False, ssr_mode=False, theme=theme, css=WHOLE_GALLERY, footer_links=[],
            show_error=True, app_kwargs=dict(middleware=[Middleware(_policed)]), quiet=True, prevent_thread_lock=True)
    except OSError as error:
        raise InputError(f'the page cannot be served at {host}, port {port or "7860 to 7959"}: give another --port or '
                         '--host') from error
    print(f'the page is at {address}; Ctrl-C ends it', flush=True)
    page.block_thread()


def _policed(app: Callable) -> Callable:
    """An ASGI application whose pages may load nothing from other servers."""
    async def answer(scope: dict, receive: Callable, send: Callable) -> None:
        async def send_policed(message: dict) -> None:
            if message['type'] == 'http.response.start':
                message = dict(message, headers=[*message.get('headers', ()), (b'content-security-policy', POLICY)])
            await send(message)
        await app(scope, receive, send_policed)
    return answer
