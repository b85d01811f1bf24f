"""Excerpts of two public data sets under CC BY 4.0 (creativecommons.org/licenses/by/4.0); see README.md beside this.

household.csv.gz: Individual Household Electric Power Consumption, G. Hebrail and A. Berard, UCI Machine Learning
Repository, no. 235. steelplant.csv.gz: Steel Industry Energy Consumption, Sathishkumar V E, Shin C. and Cho Y., UCI
Machine Learning Repository, no. 851. Both are subsets with units and times rewritten and values unchanged.
"""
