"""Drive a real, headless ComfyUI: its source tree (`source`), the server process (`server`), the HTTP interface
(`client`) and the results of a graph (`outputs`).
"""
