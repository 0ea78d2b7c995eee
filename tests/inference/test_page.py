"""The page of tools/app.py as its user has it: started by the command, asked over HTTP, and opened in a browser.

It needs Gradio, which ``make test`` has not: ``make test-app`` runs these.
"""
from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys

import pytest
from PIL import Image
from tools_helpers import ROOT

pytestmark = pytest.mark.page
CAPTIONS = ['Vanilla', 'Image resize', 'FlexiViT', 'Prior', 'MSPE (tuned)']
CHROMIUM = [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--window-size=1100,1000']
SECONDS = 600    # within which a page answers on a busy machine


def start(task):
    return subprocess.Popen(
        [sys.executable, ROOT / 'tools/app.py', 'mspe.py', 'stock.pth', '--adapter', 'adapter.safetensors'],
        cwd=task.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope='module')
def page(segmentation):
    """The address of the page of a segmentor."""
    process = start(segmentation)
    try:
        line = next((line for line in process.stdout if line.startswith('the page is at ')), '')
        assert line, process.stderr.read()
        yield line.split()[4].rstrip(';')
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 143


@pytest.fixture
def browser(tmp_path):
    """Headless chromium that logs its requests."""
    from selenium import webdriver
    programs = [shutil.which(name) for name in ('chromium', 'chromedriver')]
    if None in programs:
        pytest.fail('this test needs chromium and chromedriver: apt-get install chromium chromium-driver')
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for argument in (*CHROMIUM, f'--user-data-dir={tmp_path}'):
        options.add_argument(argument)
    options.set_capability('goog:loggingPrefs', dict(performance='ALL', browser='ALL'))
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


def test_page_is_of_this_machine_alone_and_its_policy_forbids_other_servers(page):
    import httpx
    assert page.startswith('http://127.0.0.1:')
    policy = httpx.get(page).headers['content-security-policy']
    assert 'http' not in policy
    assert "default-src 'self'" in policy


def test_page_answers_over_http_at_each_resolution(page, segmentation):
    from gradio_client import Client, handle_file
    client, image = Client(page, verbose=False), handle_file(segmentation.images[0])
    for height in (16, 128):
        found = client.predict(image, height, api_name='/compare')
        assert found[0]['caption'] == f'The image at {height} × {height} px'
        assert [one['caption'].partition(':')[0] for one in found[1:]] == CAPTIONS
        pictures = [Image.open(one['image']) for one in found]
        assert all(picture.height == 256 and picture.format == 'PNG' for picture in pictures)
        differ = len({picture.tobytes() for picture in pictures[1:]}) > 1
        assert differ == (height < 128)    # at the base resolution, all methods are the stock model
    assert client.predict(None, 16, api_name='/compare') == []


def test_page_shows_the_methods_in_a_browser_and_asks_no_other_server(page, segmentation, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    def captions():
        return [caption.text for caption in browser.find_elements(By.CSS_SELECTOR, '.caption-label')]

    def shows(text):
        WebDriverWait(browser, SECONDS).until(lambda _: any(caption == text for caption in captions()))
        assert [caption.partition(':')[0] for caption in captions()[1:]] == CAPTIONS

    browser.get(page)
    WebDriverWait(browser, SECONDS).until(lambda _: browser.find_elements(By.CSS_SELECTOR, 'input[type=file]'))
    browser.find_element(By.CSS_SELECTOR, 'input[type=file]').send_keys(str(segmentation.images[0]))
    shows('The image at 32 × 32 px')
    slider = browser.find_element(By.CSS_SELECTOR, 'input[type=range]')
    slider.send_keys(*[Keys.ARROW_LEFT] * 8)
    browser.execute_script("arguments[0].dispatchEvent(new PointerEvent('pointerup', {bubbles: true}))", slider)
    shows('The image at 24 × 24 px')
    messages = [json.loads(entry['message'])['message'] for entry in browser.get_log('performance')]
    asked = [message['params']['request']['url'] for message in messages if message['method'] == 'Network.requestWillBeSent']
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith((page, 'data:', 'blob:', 'chrome'))] == []
    assert [entry for entry in browser.get_log('browser') if entry['level'] == 'SEVERE'] == []


def test_page_on_a_port_that_is_taken_is_refused_in_one_sentence(page, segmentation):
    port = page.rstrip('/').rpartition(':')[2]
    sentence = segmentation.world.fails('app.py', 'mspe.py', 'stock.pth', '--port', port)
    assert f'the page cannot be served at 127.0.0.1, port {port}: give another --port' in sentence
