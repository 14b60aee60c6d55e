"""Conditional control: does a conditional model do what it is asked?"""
